"""Builds the wheel with the standard library alone, so that tests need no network and no setuptools."""

import zipfile
from pathlib import Path

INFO = "acme_device-1.0.dist-info"
ENTRIES = """[cpuruntime.devices]
ACME = acme_device:AcmePlugin
CARELESS = acme_device:CarelessPlugin
CPU = acme_device:AcmePlugin
GONE = acme_device_driver:Plugin
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {
        "acme_device.py": Path("acme_device.py").read_text(),
        f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: acme-device\nVersion: 1.0\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/entry_points.txt": ENTRIES,
    }
    files[f"{INFO}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{INFO}/RECORD"])
    name = "acme_device-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return name
