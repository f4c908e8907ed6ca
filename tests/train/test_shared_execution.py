"""Live blocks on eight devices that share each batch, in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CODE = """if True:
    import json, sys
    import jax
    import numpy as np
    from configs import digits
    from experiments.assembly.assemble import assemble
    from experiments.running.launch import Session, launch
    from safetensors.numpy import load_file

    found = {}
    for devices in (1, 8):
        config = digits.get_config("random,plan=static").to_dict()
        config |= {"steps": 20, "execution": "sparse", "devices": devices, "density": "0.25"}
        folder = f"{sys.argv[1]}/{devices}"
        launch(config, __import__("pathlib").Path(folder), Session(say=lambda line: None))
        found[devices] = load_file(f"{folder}/model.safetensors")
    apart = max(float(np.abs(found[1][k] - found[8][k]).max()) for k in found[1])
    programs = assemble(config).shared.programs
    keys = [str(key[-1]) for key in programs.compilations if key[0] == "train"]
    print(json.dumps({"devices": jax.device_count(), "apart": apart, "trained": keys}))
"""


def test_training_on_live_blocks_on_eight_devices_agrees_with_one(tmp_path):
    there = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        env=there,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    assert sorted(found["trained"]) == ["packed"]
    assert found["apart"] < 1e-4
