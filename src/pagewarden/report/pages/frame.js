const charts = JSON.parse(document.getElementById("charts").textContent);
const ink = "currentColor", line = "#8886";
const config = {
  background: "transparent", view: { stroke: null },
  axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelLimit: 260 },
  legend: { labelColor: ink, titleColor: ink, labelLimit: 260 }, title: { color: ink },
  header: { labelColor: ink, titleColor: ink }, text: { color: ink }, rule: { color: ink },
  range: { category: ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac",
    "#d6a100", "#ff9da6"] },
};
window.views = [];
for (const [number, chart] of charts.entries()) {
  const place = document.getElementById(`chart-${number}`);
  try {
    const drawn = await vegaEmbed(place, chart, { actions: false, renderer: "svg", config });
    window.views.push(drawn.view);
  } catch (error) {
    place.textContent = `This picture could not be drawn: ${error}`;
    console.error(error);
  }
}
document.documentElement.dataset.drawn = String(window.views.length);
