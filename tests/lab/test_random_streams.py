"""No random stream of the lab repeats another, or one of the library."""

from infobatch import seeding
from infobatch.lab.random_streams import Stream
from infobatch.lab.training.gradient_noise import NUM_DRAWS


def test_streams_do_not_meet():
    numbers = {*map(int, seeding.Stream), *map(int, Stream)}
    assert len(numbers) == len(seeding.Stream.__members__) + len(Stream.__members__)
    probe = {Stream.NOISE_PROBE + number for number in range(NUM_DRAWS + 1)}
    assert probe & numbers == {Stream.NOISE_PROBE}
