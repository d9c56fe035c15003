// The page of a run alone.

byId("made").textContent = `Made by RegionCap ${data.version}.`;
showBench();
