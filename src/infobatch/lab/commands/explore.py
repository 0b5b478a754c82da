"""The command that shows a run's data on one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from infobatch.lab.commands.arguments import OptionalPath, PositionalPath
from infobatch.lab.commands.console import console
from infobatch.lab.commands.loading import load
from infobatch.lab.data.own import OWN
from infobatch.lab.explorer import Contents, contents_of, open_run, write_page
from infobatch.lab.explorer.explore import MOST
from infobatch.lab.explorer.thumbnails import LARGEST
from infobatch.lab.runs.folder import RunFolder, check_is_one_run
from infobatch.lab.runs.sources import check_data


def explore(
    run: PositionalPath,
    out: OptionalPath = None,
    data_dir: OptionalPath = None,
    embeddings: OptionalPath = None,
    most: int = MOST,
    thumbnail: int = LARGEST,
) -> None:
    """Show each sample of a recorded run on one HTML page: a map, lists, pictures and losses.

    Args:
        run: Folder of a run that was trained with --record, or any folder that record_to= named.
        out: The page to write; by default explore.html beside the folder dynamics, and explore-NAME.html
            beside one of another name.
        data_dir: Folder of the data, if it is another one than in training.
        embeddings: A .npy file with a vector for each training sample, to list near-duplicates.
        most: How many samples the page shows; of more, the first of each list and others at random.
        thumbnail: The longer side of a picture at most, in pixels.
    """
    check_is_one_run(run)
    dynamics = open_run(run)
    vectors = None if embeddings is None else _read(embeddings)
    trained = next((each for each in (run, run.parent) if RunFolder(each).exists), None)
    contents, title = Contents(), ""
    if trained is not None:
        contents, title = _data_of(trained, data_dir)
    elif data_dir is not None:
        raise ValueError(
            f"--data-dir is {data_dir}, but {run} holds no run of the lab that would say which data it "
            "is; give the data in Python, by infobatch.lab.explore"
        )
    page = write_page(dynamics, contents, vectors, out, title, most, thumbnail)
    size = f"{page.stat().st_size / 1e6:.1f} MB"
    console.print(f"The page is {page} ({size}), of {dynamics.folder}", soft_wrap=True)


def _data_of(run: Path, data_dir: Path | None) -> tuple[Contents, str]:
    """What the samples of a run of the lab show, and the name of their data."""
    config = RunFolder(run).config()
    if config.data == OWN:
        console.print(
            "The data is known to your training function alone: the page has numbers. For what the "
            "samples show, call infobatch.lab.explore in Python."
        )
        return Contents(), run.name
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    check_data(config)
    return contents_of(load(config)), config.data


def _read(path: Path) -> np.ndarray:
    """The embeddings in a file."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"--embeddings {path} cannot be read ({error}); give a file that numpy.save wrote"
        ) from error
    if not isinstance(values, np.ndarray):
        raise ValueError(f"--embeddings {path} holds several arrays; give a .npy file, which holds one")
    return values
