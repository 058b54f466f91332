"""The model cache: compiled models in files, for `export_model`, `import_model` and CACHE_DIR."""
