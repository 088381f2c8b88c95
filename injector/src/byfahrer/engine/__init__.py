"""
The Docker Engine: the only package that imports `docker`, and where its JSON and its errors end.

Others see `interface.Engine` and the errors in `errors`; nothing here decides anything about targets or sidecars.
"""
