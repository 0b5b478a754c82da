"""Where a result comes from."""

import torch

import infobatch
from infobatch.lab.runs.environment import describe_environment


def test_versions_and_device_are_told():
    told = describe_environment(torch.device("cpu"))
    assert told["infobatch"] == infobatch.__version__
    assert told["torch"] == torch.__version__
    assert told["threads"] == torch.get_num_threads()
    assert told["device"].startswith("cpu (")
