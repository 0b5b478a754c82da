"""What is printed of a run, as it trains and at its end."""

import re


def test_what_was_looked_at_is_told_as_a_cost(call, tmp_path):
    """Of four epochs of 1,400 two are pruned, by 420 each: a third of 840 is 280."""
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--save", 15]
    code, output, error = call("train", *options, "--policy", "kakurenbo", "--out", tmp_path / "a")
    assert code == 0, error
    assert "4,760 samples" in output
    assert "as much as training on 5,040: 10.0% saved" in " ".join(output.split())


def test_the_noise_is_told_while_a_run_trains(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 3, "--device", "cpu"]
    code, output, error = call("train", *options, "--probe", 50, "--out", tmp_path / "r")
    assert code == 0, error
    first, second, last = re.findall(r"epoch \d, .*", output)
    assert re.fullmatch(
        r"epoch 1, 100% kept, test accuracy [\d.]+ %, probed noise \d\.\d\d", first.strip()
    )
    assert "probed" not in second
    assert "noise" not in last
    code, _, error = call("train", *options, "--probe", 1, "--out", tmp_path / "s")
    assert code == 2
    assert "--probe is 1; it must be 0, or at least 2" in error
