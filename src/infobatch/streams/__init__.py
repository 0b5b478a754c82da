"""Streams: samples of an iterable dataset are left out by their ids, before they are decoded."""

from infobatch.streams.filter import BatchedStream, FilteredStream, StreamFilter
from infobatch.streams.ranks import in_step
from infobatch.streams.sample_ids import SampleIds

__all__ = ["BatchedStream", "FilteredStream", "SampleIds", "StreamFilter", "in_step"]
