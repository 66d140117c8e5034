// The page's own elements: a forecast with its bands, and a recording with its posterior.
(() => {
  "use strict";
  const COLOURS = ["#0f766e", "#b45309", "#6d28d9", "#be123c", "#0369a1", "#4d7c0f"];
  const FORECAST = "#d1495b";
  const SVG = "http://www.w3.org/2000/svg";

  function make(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function drawn(name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // About `count` round numbers between two.
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.75 * rough) || rough;
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(at * step + 0);
    return found;
  }

  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  }

  function when(time, dated, span) {
    if (!dated) return String(time);
    const text = new Date(time).toISOString();
    if (span > 2 * 365 * 864e5) return text.slice(0, 7);
    if (span > 4 * 864e5) return text.slice(0, 10);
    return text.slice(5, 16).replace("T", " ");
  }

  function moment(time, dated) {
    return dated ? new Date(time).toISOString().slice(0, 16).replace("T", " ").replace(" 00:00", "") : String(time);
  }

  class Forecast extends HTMLElement {
    connectedCallback() {
      if (this.ready) return;
      this.ready = true;
      this.data = JSON.parse(this.getAttribute("values"));
      this.removeAttribute("values");
      this.hidden_names = new Set();
      const first = this.data.series[0];
      const others = Object.keys(first.others);
      this.colours = Object.fromEntries(others.map((name, n) => [name, COLOURS[n % COLOURS.length]]));
      // One baseline is shown at first; a click shows the others.
      others.filter((name) => name !== "SeasonalNaive").forEach((name) => this.hidden_names.add(name));
      this.chart = make("div", { class: "sf-chart" });
      this.reading = make("div", { class: "sf-reading" });
      this.append(this.legend(), this.chart, this.reading);
      this.series = first;
      this.draw();
      new ResizeObserver(() => this.draw()).observe(this.chart);
    }

    legend() {
      const box = make("div", { class: "sf-legend" });
      if (this.data.series.length > 1) {
        const choice = make("select", { "aria-label": "Series" });
        this.data.series.forEach((one, n) => choice.append(make("option", { value: n }, one.name)));
        choice.onchange = () => { this.series = this.data.series[choice.value]; this.draw(); };
        box.append(choice);
      }
      const entries = [["history", "var(--body-text-color)"], [this.data.model, FORECAST], ...Object.entries(this.colours)];
      for (const [name, colour] of entries) {
        const button = make("button", { type: "button", "aria-pressed": String(!this.hidden_names.has(name)) });
        const mark = make("i");
        mark.style.background = colour;
        button.append(mark, name);
        button.onclick = () => {
          const off = this.hidden_names.delete(name) ? false : Boolean(this.hidden_names.add(name));
          button.setAttribute("aria-pressed", String(!off));
          this.draw();
        };
        box.append(button);
      }
      for (const band of this.series_bands()) {
        const mark = make("i");
        Object.assign(mark.style, { background: FORECAST, opacity: band.opacity, height: "10px" });
        box.append(make("span", {}, mark, ` ${band.level} %`));
      }
      return box;
    }

    series_bands() {
      return this.data.series[0].bands.map((band, n) => ({ level: band.level, opacity: 0.2 + 0.18 * n }));
    }

    draw() {
      const width = Math.max(320, this.chart.clientWidth || 640), height = 320;
      if (width === this.drawn_width && this.drawn_series === this.key()) return;
      [this.drawn_width, this.drawn_series] = [width, this.key()];
      const { series, data } = this;
      const shown = (name) => !this.hidden_names.has(name);
      const lines = [];
      if (shown("history")) lines.push({ t: series.past.t, y: series.past.y, colour: "currentColor", width: 1.2 });
      const last = series.past.y.length - 1;
      const joined = (y) => last < 0 ? { t: series.t, y } : { t: [series.past.t[last], ...series.t], y: [series.past.y[last], ...y] };
      for (const [name, y] of Object.entries(series.others))
        if (shown(name)) lines.push({ ...joined(y), colour: this.colours[name], width: 1.3, dash: "4 3" });
      if (shown(data.model)) lines.push({ ...joined(series.y), colour: FORECAST, width: 2 });
      const bands = shown(data.model) ? series.bands : [];
      const values = [...lines.flatMap((line) => line.y), ...bands.flatMap((b) => [...b.low, ...b.high])].filter((v) => v !== null);
      const all = [...series.past.t, ...series.t];
      let [low, high] = [Math.min(...values), Math.max(...values)];
      if (!Number.isFinite(low)) [low, high] = [0, 1];
      if (low === high) [low, high] = [low - 1, high + 1];
      const pad = 0.05 * (high - low);
      [low, high] = [low - pad, high + pad];
      const [begin, end] = [Math.min(...all), Math.max(...all)];
      const left = 58, right = 12, top = 8, bottom = 26;
      const x = (t) => left + (t - begin) / (end - begin || 1) * (width - left - right);
      const y = (v) => height - bottom - (v - low) / (high - low) * (height - top - bottom);
      const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Forecast of ${series.name} by ${data.model}` });
      for (const at of ticks(low, high, 5)) {
        svg.append(drawn("line", { x1: left, x2: width - right, y1: y(at), y2: y(at), stroke: "var(--border-color-primary)" }));
        svg.append(drawn("text", { x: left - 8, y: y(at) + 4, "text-anchor": "end" }, number(at)));
      }
      const places = Math.max(2, Math.floor(width / 130));
      for (let n = 0; n < places; n++) {
        const t = all[Math.round((all.length - 1) * (n + 0.5) / places)];
        svg.append(drawn("text", { x: x(t), y: height - 6, "text-anchor": "middle" }, when(t, data.dated, end - begin)));
      }
      bands.forEach((band, n) => {
        const up = series.t.map((t, k) => `${x(t)},${y(band.high[k])}`);
        const down = series.t.map((t, k) => `${x(t)},${y(band.low[k])}`).reverse();
        svg.append(drawn("polygon", { points: [...up, ...down].join(" "), fill: FORECAST, opacity: 0.2 + 0.14 * n }));
      });
      for (const line of lines) {
        let path = "", open = false;
        line.y.forEach((v, k) => {
          if (v === null) { open = false; return; }
          path += `${open ? "L" : "M"}${x(line.t[k]).toFixed(1)} ${y(v).toFixed(1)}`;
          open = true;
        });
        svg.append(drawn("path", { d: path, fill: "none", stroke: line.colour, "stroke-width": line.width, "stroke-dasharray": line.dash || "none", "stroke-linejoin": "round" }));
      }
      const cross = drawn("line", { y1: top, y2: height - bottom, stroke: "var(--body-text-color-subdued)", "stroke-dasharray": "2 3", visibility: "hidden" });
      svg.append(cross);
      svg.onpointermove = (event) => {
        const box = svg.getBoundingClientRect();
        const t = begin + ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * (end - begin);
        const near = all.reduce((best, one, k) => Math.abs(one - t) < Math.abs(all[best] - t) ? k : best, 0);
        cross.setAttribute("x1", x(all[near]));
        cross.setAttribute("x2", x(all[near]));
        cross.setAttribute("visibility", "visible");
        this.reading.textContent = this.read(near);
      };
      svg.onpointerleave = () => { cross.setAttribute("visibility", "hidden"); this.reading.textContent = ""; };
      this.chart.replaceChildren(svg);
    }

    key() {
      return this.data.series.indexOf(this.series) + [...this.hidden_names].sort().join();
    }

    read(k) {
      const { series, data } = this, past = series.past.t.length;
      if (k < past) return `${moment(series.past.t[k], data.dated)}: ${number(series.past.y[k])}`;
      const n = k - past;
      const parts = [`${data.model} ${number(series.y[n])}`];
      for (const band of series.bands) parts.push(`${band.level} % ${number(band.low[n])} to ${number(band.high[n])}`);
      for (const [name, y] of Object.entries(series.others))
        if (!this.hidden_names.has(name)) parts.push(`${name} ${number(y[n])}`);
      return `${moment(series.t[n], data.dated)}: ${parts.join(", ")}`;
    }
  }

  class Posterior extends HTMLElement {
    connectedCallback() {
      if (this.ready) return;
      this.ready = true;
      this.data = JSON.parse(this.getAttribute("values"));
      this.removeAttribute("values");
      this.traces = this.data.traces.map((text) => {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        return new Int16Array(bytes.buffer);
      });
      this.swings = this.traces.map((trace) => {
        const sizes = Array.from(trace.filter((_, n) => n % 7 === 0), Math.abs).sort((a, b) => a - b);
        return Math.max(5, 2.2 * sizes[Math.floor(0.95 * (sizes.length - 1))] || 5);
      });
      this.now = this.data.times[0] || 0;
      this.build();
      this.show();
      new ResizeObserver(() => this.show()).observe(this);
    }

    disconnectedCallback() {
      this.playing = false;
    }

    build() {
      const { data } = this;
      this.bars = make("div", { class: "sf-bars", "aria-live": "off" });
      this.fills = data.classes.map((name, k) => {
        const fill = make("i"), share = make("output");
        fill.style.background = COLOURS[k % COLOURS.length];
        this.bars.append(make("span", {}, name), make("div", {}, fill), share);
        return [fill, share];
      });
      this.button = make("button", { type: "button" }, "Play");
      this.button.onclick = () => this.playing ? this.pause() : this.play();
      this.speed = make("select", { "aria-label": "Speed" });
      for (const times of [1, 2, 8, 32]) this.speed.append(make("option", { value: times }, `${times} x`));
      this.slider = make("input", { type: "range", min: 0, max: data.seconds, step: 0.05, "aria-label": "Place in the recording" });
      this.slider.oninput = () => { this.now = Number(this.slider.value); this.show(); };
      this.clock = make("output");
      this.near = make("canvas", { height: 150 });
      this.whole = make("canvas", { height: 96 });
      this.whole.style.cursor = "pointer";
      this.whole.onpointerdown = (event) => {
        const box = this.whole.getBoundingClientRect();
        this.now = (event.clientX - box.left) / box.width * data.seconds;
        this.show();
      };
      this.append(this.bars, this.near, make("div", { class: "sf-playbar" }, this.button, this.speed, this.slider, this.clock), this.whole);
    }

    play() {
      if (this.now >= this.data.seconds) this.now = 0;
      this.playing = true;
      this.button.textContent = "Pause";
      let before = performance.now();
      const step = (at) => {
        if (!this.playing) return;
        this.now += (at - before) / 1000 * Number(this.speed.value);
        before = at;
        if (this.now >= this.data.seconds) { this.now = this.data.seconds; this.pause(); }
        this.show();
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    pause() {
      this.playing = false;
      this.button.textContent = "Play";
    }

    // The latest answer that was there at a time, or -1.
    answer(time) {
      const { times } = this.data;
      let low = 0, high = times.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (times[middle] <= time) low = middle + 1; else high = middle;
      }
      return low - 1;
    }

    show() {
      const { data } = this, at = this.answer(this.now);
      this.fills.forEach(([fill, share], k) => {
        const value = at < 0 ? 0 : data.shares[at][k];
        fill.style.width = `${100 * value}%`;
        share.textContent = at < 0 ? "–" : `${Math.round(100 * value)} %`;
      });
      this.slider.value = this.now;
      this.clock.textContent = `${this.now.toFixed(1)} of ${data.seconds.toFixed(1)} s`;
      this.draw_near();
      this.draw_whole();
    }

    canvas(node) {
      const scale = window.devicePixelRatio || 1, height = Number(node.dataset.height || node.getAttribute("height"));
      node.dataset.height = height;
      const width = Math.max(300, this.clientWidth);
      if (node.width !== Math.round(width * scale)) {
        node.width = Math.round(width * scale);
        node.height = Math.round(height * scale);
        node.style.height = `${height}px`;
      }
      const pen = node.getContext("2d");
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, width, height);
      const style = getComputedStyle(this);
      return { pen, width, height, ink: style.color, faint: style.getPropertyValue("--border-color-primary") || "#8884", quiet: style.getPropertyValue("--body-text-color-subdued") || "#777" };
    }

    // A few traces around the present, which is where the window of the answer ends.
    draw_near() {
      const { data } = this, { pen, width, height, ink, faint, quiet } = this.canvas(this.near);
      const left = 34, span = Math.max(8, 1.5 * data.window), begin = this.now - 0.75 * span;
      const x = (time) => left + (time - begin) / span * (width - left);
      pen.fillStyle = faint;
      pen.globalAlpha = 0.55;
      const from = x(this.now - data.window);
      pen.fillRect(Math.max(left, from), 0, x(this.now) - Math.max(left, from), height);
      pen.globalAlpha = 1;
      pen.font = "12px system-ui, sans-serif";
      const row = (height - 18) / this.traces.length;
      this.traces.forEach((trace, n) => {
        const middle = (n + 0.5) * row;
        pen.fillStyle = quiet;
        pen.fillText(data.channels[n], 2, middle + 4);
        pen.strokeStyle = ink;
        pen.lineWidth = 1;
        pen.beginPath();
        const first = Math.max(0, Math.floor(begin * data.rate)), last = Math.min(trace.length, Math.ceil((begin + span) * data.rate));
        for (let k = first; k < last; k++) {
          const y = middle - Math.max(-1, Math.min(1, trace[k] / this.swings[n])) * row * 0.48;
          if (k === first) pen.moveTo(Math.max(left, x(k / data.rate)), y); else pen.lineTo(Math.max(left, x(k / data.rate)), y);
        }
        pen.stroke();
      });
      pen.fillStyle = quiet;
      for (const [time, name] of data.events) {
        if (time < begin || time > begin + span) continue;
        pen.fillRect(x(time), 0, 1, height - 14);
        pen.fillText(name.slice(0, 18), x(time) + 3, height - 3);
      }
      pen.fillStyle = FORECAST;
      pen.fillRect(x(this.now), 0, 1.5, height - 14);
    }

    // The posterior over the whole recording.
    draw_whole() {
      const { data } = this, { pen, width, height, faint, quiet } = this.canvas(this.whole);
      const x = (time) => time / data.seconds * width, y = (share) => 4 + (1 - share) * (height - 24);
      pen.fillStyle = faint;
      pen.fillRect(0, y(1 / data.classes.length), width, 1);
      pen.font = "12px system-ui, sans-serif";
      pen.fillStyle = quiet;
      for (const at of ticks(0, data.seconds, Math.max(3, width / 110))) {
        const text = `${at} s`;
        pen.fillText(text, Math.min(width - pen.measureText(text).width, x(at)), height - 3);
      }
      for (const [time] of data.events) { pen.globalAlpha = 0.35; pen.fillRect(x(time), height - 20, 1, 5); }
      pen.globalAlpha = 1;
      const two = data.classes.length === 2;
      data.classes.forEach((_, k) => {
        pen.strokeStyle = COLOURS[k % COLOURS.length];
        pen.lineWidth = 1.2;
        pen.globalAlpha = two && k === 1 ? 0.35 : 1;
        pen.beginPath();
        data.times.forEach((time, n) => {
          if (n === 0) pen.moveTo(x(time), y(data.shares[n][k])); else pen.lineTo(x(time), y(data.shares[n][k]));
        });
        pen.stroke();
      });
      pen.globalAlpha = 1;
      pen.fillStyle = FORECAST;
      pen.fillRect(x(this.now), 0, 1.5, height - 16);
    }
  }

  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
  }, true);

  if (!customElements.get("sigform-forecast")) customElements.define("sigform-forecast", Forecast);
  if (!customElements.get("sigform-posterior")) customElements.define("sigform-posterior", Posterior);
})();
