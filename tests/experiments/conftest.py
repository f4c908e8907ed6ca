"""Configs of small runs on digits."""

import pytest

from configs import digits


@pytest.fixture(scope="session")
def config_of():
    """config_of(argument, section__field=value, ...) -> the config of a short run, plain data."""

    def make(argument="magnitude,plan=gradual", **changes):
        config = {**digits.get_config(argument).to_dict(), "steps": 40}
        for path, value in changes.items():
            *sections, field = path.split("__")
            node = config
            for section in sections:
                node = node[section]
            node[field] = value
        return config

    return make
