// Puts the page together; marks in the browser's timeline say how long that took.

import { makeDetail } from "explorer/detail";
import { makeExport } from "explorer/export";
import { makeFilters } from "explorer/filters";
import { makeGrid } from "explorer/grid";
import { listenToKeys } from "explorer/keys";
import { makePlot } from "explorer/plot";
import { clear } from "explorer/state";

performance.mark("explorer:begun");
makeFilters();
makeGrid();
makeDetail();
makeExport();
listenToKeys();
clear();
performance.mark("explorer:samples");
await makePlot();
const nextFrame = () => new Promise(requestAnimationFrame);
await nextFrame(); // in which the map is painted
await nextFrame();
performance.mark("explorer:open");
document.documentElement.dataset.ready = "yes";
