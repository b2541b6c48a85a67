"""The model: values, tables and decisions. No I/O, no clock, no event loop."""
