"""Which flags an API server gets."""

from __future__ import annotations

from pytest_kube.controlplane.apiserver import gates, served
from pytest_kube.profiles import Profile


def test_flags_of_what_is_served_are_those_of_the_profile() -> None:
    """Further arguments replace them; none is there for nothing."""
    profile = Profile("p", "envtest", feature_gates={"A": True, "B": False})

    assert served(profile) == {"feature-gates": "A=true,B=false"}
    assert served(Profile("p", "envtest")) == gates({}) == {}
    further = {"feature-gates": "C=true", "runtime-config": "api/all", "v": "9"}
    other = Profile(
        "p",
        "envtest",
        feature_gates={"A": True},
        runtime_config={"a/v1": "true"},
        extra_args={"kube-apiserver": further, "etcd": {"feature-gates": "D=true"}},
    )
    assert served(other) == {"feature-gates": "C=true", "runtime-config": "api/all"}
