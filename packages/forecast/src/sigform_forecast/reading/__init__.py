"""Read a table of time series as people have it, and say what was understood.

`read_table` finds encoding, separator, decimal sign, dates, layout and roles of the columns, and
returns the panel as found: nothing is filled, merged or resampled here (see repair.repair).
Text is parsed by pyarrow block by block into float64 and dictionary codes, so that a file of
millions of rows costs a small multiple of its panel.

The modules in the order of the work: encoding, shape, cells, dates, columns, time_columns,
delimited or parquet, roles, table.
"""

from sigform_forecast.reading.dialect import Dialect
from sigform_forecast.reading.table import Table, read_table

__all__ = ["Dialect", "Table", "read_table"]
