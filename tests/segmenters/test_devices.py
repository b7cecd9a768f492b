import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medfocus_pipeline.devices import (
    autocast,
    calls_at_once,
    cores,
    resolve_device,
    settled_precision,
)
from medfocus_pipeline.errors import ConfigError


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("cpu_only")
def test_auto_is_the_cpu_where_nothing_else_is():
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu") == "cpu"


def test_auto_prefers_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ConfigError, match=f"Device {device}.*has: cpu.*--device auto"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("has", "precision", "dtype"),
    [
        (True, "bf16", torch.bfloat16),
        (True, "fp32", torch.float32),
        (False, "bf16", torch.float32),  # imitated in software, it is slower
    ],
)
def test_autocast_follows_the_precision_that_suits_the_cpu(monkeypatch, has, precision, dtype):
    monkeypatch.setattr("medfocus_pipeline.devices._cpu_has_bf16", lambda: has)
    with autocast("cpu", precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_gpu_takes_the_precision_that_was_asked_for(monkeypatch):
    monkeypatch.setattr("medfocus_pipeline.devices._cpu_has_bf16", lambda: False)
    assert settled_precision("cuda", "bf16") == "bf16"
    assert settled_precision("mps", "fp32") == "fp32"


@pytest.mark.usefixtures("cpu_only")
def test_a_cpu_takes_a_call_for_each_core_on_one_thread_each():
    before = torch.get_num_threads()
    with calls_at_once("auto") as calls, ThreadPoolExecutor(calls) as callers:
        assert calls == cores()
        assert set(callers.map(lambda _: torch.get_num_threads(), range(4))) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("cpu_only")
def test_little_memory_means_fewer_calls(monkeypatch):
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 3 * 2**18}
    monkeypatch.setattr("medfocus_pipeline.devices.os.sysconf", sizes.__getitem__)
    with calls_at_once("cpu") as calls:
        assert calls == 1


def test_torch_is_not_imported_for_models_that_do_without(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    with calls_at_once("auto") as calls:
        assert calls == cores()
        assert "torch" not in sys.modules


def test_a_gpu_takes_one_call_at_a_time(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.get_num_threads()
    with calls_at_once("cuda") as calls:
        assert calls == 1
        assert torch.get_num_threads() == before
