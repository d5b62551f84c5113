"""What `import kwanzaa_compute` promises."""

import kwanzaa_compute


def test_every_public_name_can_be_had() -> None:
    for name in kwanzaa_compute.__all__:
        assert getattr(kwanzaa_compute, name) is not None


def test_the_lazy_table_and_the_public_names_are_the_same() -> None:
    lazy = set(kwanzaa_compute._HOME_OF) | {"__version__"}
    assert lazy == set(kwanzaa_compute.__all__)
