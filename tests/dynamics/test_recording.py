"""The option that says where epochs are recorded."""

import pytest

from infobatch.dynamics import Recording


def test_every_so_many_epochs_and_the_last_are_taken():
    recording = Recording("run/dynamics", every=3)
    assert [epoch for epoch in range(9) if recording.takes(epoch, 9)] == [0, 3, 6, 8]


def test_other_options_are_refused():
    with pytest.raises(ValueError, match=r"every is 0; give a whole number of epochs, at least 1"):
        Recording("run", every=0)
    with pytest.raises(TypeError, match=r"record_to is True; give the path of a folder"):
        Recording(True)


def test_a_folder_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"record_to is empty, which is the working folder; give"):
        Recording("")
