"""What `import genax.interop` loads."""

import json
import subprocess
import sys

FOR_DATA = ("array_record", "datasets", "grain", "tensorflow", "tensorflow_datasets", "tokenizers")


def test_no_package_for_data_is_imported():
    program = "import genax.interop, json, sys; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    modules = json.loads(found.stdout)
    assert "genax.interop.families" in modules
    assert not set(FOR_DATA) & set(modules)
    assert not [name for name in modules if name.startswith("genax.data")]
