// Draw everything.

document.title = data.title;
byId("title").textContent = data.title;
byId("made").textContent = `Made by RegionCap ${data.version}.`;
if (data.command) {
  byId("command").textContent = data.command;
  byId("command").hidden = false;
}
showScores();
showLearning();
showSearch();
showTables();
showBench();
showCaptions();
