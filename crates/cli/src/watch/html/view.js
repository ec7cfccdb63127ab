"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

// Text -----------------------------------------------------------------------------------
const digits = (v) => (v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2);
const bytes = (count) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = 0;
  while (count >= 999.5 && unit + 1 < units.length) { count /= 1024; unit += 1; }
  return count.toFixed(unit === 0 ? 0 : digits(count)) + "\u202f" + units[unit];
};
const rate = (perSecond) => (perSecond < 0.5 ? "0" : bytes(perSecond) + "/s");
const clock = (ms) => {
  const s = Math.floor(ms / 1000), pad = (n) => String(n).padStart(2, "0");
  const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  return h ? `${h}:${pad(m)}:${pad(s % 60)}` : `${m}:${pad(s % 60)}`;
};
const millis = (ms) =>
  ms < 1 ? Math.round(ms * 1000) + "\u202fµs"
  : ms < 1000 ? ms.toFixed(digits(ms)) + "\u202fms"
  : ms < 120000 ? (ms / 1000).toFixed(digits(ms / 1000)) + "\u202fs" : clock(ms);
const base = (path) => path.split("/").pop() || path;
const named = (name) => name || "anonymous";
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const unhex = (text) => {
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i += 1) out[i] = parseInt(text.substr(2 * i, 2), 16);
  return out;
};

// Colours --------------------------------------------------------------------------------
const ramps = {
  light: ["#fbe6cd", "#f7c48c", "#ee8f4f", "#d6524a", "#a3224f", "#4d1140"],
  dark: ["#251a3d", "#4f1f66", "#932667", "#d94f4b", "#f79a3e", "#fdf0a8"],
};
let ramp = [];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const makeRamp = () => {
  const stops = ramps[dark.matches ? "dark" : "light"].map((hex) =>
    [1, 3, 5].map((at) => parseInt(hex.substr(at, 2), 16)));
  ramp = Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((c, k) => Math.round(c + (stops[low + 1][k] - c) * (at - low)));
  });
};
// The shade is the logarithm of the written part of a row. A part below a 1/1024th stays
// darkest, so that the ramp is spent where there is something to tell apart.
const part = (shade) => (shade ? 2 ** (((shade - 1) / 253 - 1) * data.scale_bits) : 0);
const heat = (portion) => Math.max(0, Math.min(1, 1 + Math.log2(portion) / 10));
const colour = (shade) => ramp[Math.round(heat(part(shade)) * 255)];

// The grid -------------------------------------------------------------------------------
const columns = data.columns;
const rows = data.segments.reduce((sum, segment) => sum + segment.rows, 0);
const grid = new Uint8Array(rows * columns.length);
for (let from = 0, to = 0, packed = unhex(data.grid); from < packed.length; from += 1) {
  if (packed[from] === 0) { from += 1; to += packed[from]; } else { grid[to] = packed[from]; to += 1; }
}
for (const segment of data.segments) {
  segment.from = BigInt("0x" + segment.start);
  segment.to = BigInt("0x" + segment.end);
  segment.bytes = Number(segment.to - segment.from) / segment.rows;
}
const names = data.named.map(([start, end, name]) =>
  ({ from: BigInt("0x" + start), to: BigInt("0x" + end), name }));
const namesIn = (from, to) => {
  let low = 0, high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle].to <= from) low = middle + 1; else high = middle;
  }
  const found = [];
  while (low < names.length && names[low].from < to) { found.push(names[low]); low += 1; }
  return found;
};
const rowBytes = new Float64Array(rows), rowTotals = new Float64Array(rows);
{
  let row = 0;
  for (const segment of data.segments)
    for (let n = 0; n < segment.rows; n += 1, row += 1) rowBytes[row] = segment.bytes;
  for (let c = 0; c < columns.length; c += 1)
    for (row = 0; row < rows; row += 1) {
      const shade = grid[c * rows + row];
      if (shade) rowTotals[row] += part(shade) * rowBytes[row] * columns[c][2];
    }
}
const written = columns.reduce((sum, column) => sum + column[3], 0);
const start = columns.length ? columns[0][0] : 0;
const end = columns.length ? columns[columns.length - 1][1] : 1;
const seconds = Math.max(1e-3, (end - start) / 1000);
const mean = written / seconds;
const peak = columns.reduce((top, column) => Math.max(top, column[4]), 0);
const columnRate = (column) => column[3] / Math.max(1e-6, (column[1] - column[0]) / 1000);

// The chart ------------------------------------------------------------------------------
const map = byId("map"), over = byId("over"), tip = byId("tip");
const L = { left: 178, right: 74, top: 8, rateHeight: 108, between: 16, axis: 26, gap: 4 };
let layout = null;
const place = () => {
  const width = Math.max(480, byId("chart").clientWidth);
  const gaps = L.gap * Math.max(0, data.segments.length - 1);
  const room = Math.max(220, Math.min(760, rows * 6));
  const perRow = Math.max(0.6, Math.min(14, (room - Math.min(gaps, room / 3)) / Math.max(1, rows)));
  const gap = data.segments.length > 1
    ? Math.min(L.gap, (room / 3) / (data.segments.length - 1)) : 0;
  let y = L.top + L.rateHeight + L.between;
  // High addresses lie on top, as in most drawings of an address space.
  for (let i = data.segments.length - 1; i >= 0; i -= 1) {
    const segment = data.segments[i];
    segment.y = y;
    segment.height = Math.max(1.5, segment.rows * perRow);
    y += segment.height + gap;
  }
  layout = { width, plot: width - L.left - L.right, mapTop: L.top + L.rateHeight + L.between,
    mapEnd: y - gap, height: y - gap + L.axis };
};
const x = (ms) => L.left + ((ms - start) / Math.max(1e-9, end - start)) * layout.plot;
const sized = (canvas) => {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(layout.width * ratio);
  canvas.height = Math.round(layout.height * ratio);
  canvas.style.height = layout.height + "px";
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, layout.width, layout.height);
  return context;
};
const nice = (span, count) => {
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120,
    300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  return steps.find((step) => span / step <= count) || Math.ceil(span / count / 86400) * 86400;
};
const drawAxis = (g) => {
  const step = nice(seconds, Math.max(2, layout.plot / 90));
  g.font = "11.5px system-ui, sans-serif";
  g.textAlign = "center"; g.textBaseline = "top";
  for (let s = 0; s <= seconds + 1e-9; s += step) {
    const at = x(start + s * 1000);
    g.strokeStyle = css("--line"); g.lineWidth = 1;
    g.beginPath(); g.moveTo(at, L.top); g.lineTo(at, L.top + L.rateHeight);
    g.moveTo(at, layout.mapEnd); g.lineTo(at, layout.mapEnd + 5); g.stroke();
    g.fillStyle = css("--dim");
    const text = step < 1 ? (s + start / 1000).toFixed(step < 0.01 ? 3 : step < 0.1 ? 2 : 1) + " s"
      : seconds <= 120 ? Math.round(s + start / 1000) + " s" : clock(start + s * 1000);
    g.fillText(text, at, layout.mapEnd + 8);
  }
};
const drawRate = (g) => {
  const bottom = L.top + L.rateHeight;
  const top = Math.max(peak, 1);
  const y = (value) => bottom - (value / top) * (L.rateHeight - 14);
  g.textAlign = "right"; g.textBaseline = "middle"; g.font = "11.5px system-ui, sans-serif";
  g.fillStyle = css("--dim");
  g.fillText(rate(top), L.left - 10, y(top));
  g.fillText("0", L.left - 10, bottom - 4);
  g.fillText("written", L.left - 10, (y(top) + bottom) / 2);
  g.strokeStyle = css("--line");
  g.beginPath(); g.moveTo(L.left, y(top)); g.lineTo(L.left + layout.plot, y(top));
  g.moveTo(L.left, bottom + .5); g.lineTo(L.left + layout.plot, bottom + .5); g.stroke();
  const outline = (value) => {
    g.beginPath(); g.moveTo(x(start), bottom);
    for (const column of columns) {
      g.lineTo(x(column[0]), y(value(column))); g.lineTo(x(column[1]), y(value(column)));
    }
    g.lineTo(x(end), bottom); g.closePath();
  };
  g.fillStyle = css("--accent");
  g.globalAlpha = .25; outline((column) => column[4]); g.fill();
  g.globalAlpha = .85; outline(columnRate); g.fill();
  g.globalAlpha = 1;
};
const drawMap = (g) => {
  const picture = document.createElement("canvas");
  picture.width = Math.max(1, columns.length); picture.height = Math.max(1, rows);
  const inner = picture.getContext("2d");
  const pixels = inner.createImageData(picture.width, picture.height);
  const shades = Array.from({ length: 256 }, (_, shade) => (shade ? colour(shade) : null));
  for (let c = 0; c < columns.length; c += 1)
    for (let r = 0; r < rows; r += 1) {
      const shade = shades[grid[c * rows + r]];
      if (!shade) continue;
      const at = 4 * ((rows - 1 - r) * picture.width + c);
      pixels.data.set(shade, at); pixels.data[at + 3] = 255;
    }
  inner.putImageData(pixels, 0, 0);
  g.imageSmoothingEnabled = false;
  let below = 0;
  for (const segment of data.segments) {
    g.fillStyle = css("--soft");
    g.fillRect(L.left, segment.y, layout.plot, segment.height);
    const sourceY = rows - below - segment.rows;
    const width = segment.height;
    columns.forEach((column, c) => {
      const from = x(column[0]), to = x(column[1]);
      g.drawImage(picture, c, sourceY, 1, segment.rows, from, segment.y, to - from + .4, width);
    });
    below += segment.rows;
  }
};
const drawMargins = (g) => {
  const most = rowTotals.reduce((top, bytes, r) => Math.max(top, bytes / rowBytes[r]), 0) || 1;
  const labels = [];
  let row = 0;
  for (const segment of data.segments) {
    const perRow = segment.height / segment.rows;
    let total = 0;
    for (let n = 0; n < segment.rows; n += 1, row += 1) {
      const width = Math.sqrt(rowTotals[row] / rowBytes[row] / most) * (L.right - 16);
      total += rowTotals[row];
      if (!width) continue;
      g.fillStyle = css("--accent"); g.globalAlpha = .7;
      g.fillRect(layout.width - L.right + 8, segment.y + segment.height - (n + 1) * perRow,
        Math.max(1, width), Math.max(.6, perRow - (perRow > 3 ? 1 : 0)));
      g.globalAlpha = 1;
    }
    labels.push({ segment, total });
  }
  labels.sort((a, b) => b.total - a.total || b.segment.height - a.segment.height);
  const taken = [];
  g.textAlign = "right"; g.textBaseline = "middle";
  for (const { segment, total } of labels) {
    const middle = segment.y + segment.height / 2;
    const two = segment.height > 30, needs = two ? 15 : 7;
    if (taken.some(([y, h]) => Math.abs(y - middle) < h + needs)) continue;
    taken.push([middle, needs]);
    const inside = namesIn(segment.from, segment.to);
    const main = inside.reduce((best, m) => (!best || m.to - m.from > best.to - best.from ? m : best), null);
    let text = main ? named(base(main.name)) : "unmapped";
    if (inside.length > 1) text += ` +${inside.length - 1}`;
    g.font = "12px system-ui, sans-serif";
    while (g.measureText(text).width > L.left - 22 && text.length > 4) text = text.slice(0, -2) + "…";
    g.fillStyle = css(total ? "--text" : "--dim");
    g.fillText(text, L.left - 12, middle - (two ? 7 : 0));
    if (two) {
      g.font = "10.5px ui-monospace, Menlo, Consolas, monospace"; g.fillStyle = css("--dim");
      g.fillText(segment.start, L.left - 12, middle + 8);
    }
    g.fillStyle = css("--line");
    g.fillRect(L.left - 6, segment.y, 2, segment.height);
  }
};
const draw = () => {
  makeRamp(); place();
  const g = sized(map);
  sized(over);
  if (!columns.length) return;
  drawAxis(g); drawRate(g); drawMap(g); drawMargins(g);
  const scale = byId("scale").getContext("2d");
  for (let i = 0; i < 160; i += 1) {
    scale.fillStyle = `rgb(${ramp[Math.round((i / 159) * 255)]})`; scale.fillRect(i, 0, 1, 10);
  }
  for (const canvas of document.querySelectorAll("canvas[data-cells]")) drawStrip(canvas);
  for (const canvas of document.querySelectorAll("canvas[data-bins]")) drawBins(canvas);
};

// Pointing -------------------------------------------------------------------------------
const columnAt = (ms) => columns.findIndex((column) => ms < column[1]);
const showTip = (event, head, lines) => {
  tip.replaceChildren(element("b", head), ...lines.map((line) => element("div", line[0], line[1])));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 18 + box.width > innerWidth ? event.clientX - box.width - 14 : event.clientX + 16;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8)) + "px";
};
const point = (event) => {
  const box = over.getBoundingClientRect();
  const px = event.clientX - box.left, py = event.clientY - box.top;
  const g = sized(over);
  const ms = start + ((px - L.left) / layout.plot) * (end - start);
  const c = px < L.left || px > L.left + layout.plot ? -1 : columnAt(ms);
  if (c < 0) { tip.hidden = true; return; }
  const column = columns[c];
  g.strokeStyle = css("--dim"); g.lineWidth = 1; g.setLineDash([3, 3]);
  g.beginPath(); g.moveTo(px, L.top); g.lineTo(px, layout.mapEnd); g.stroke(); g.setLineDash([]);
  const when = `${clock(column[0])} to ${clock(column[1])}` +
    (column[2] > 1 ? `, ${column[2]} looks` : "");
  let below = 0;
  for (const segment of data.segments) {
    if (py >= segment.y && py < segment.y + segment.height) {
      const n = Math.min(segment.rows - 1,
        Math.floor(((segment.y + segment.height - py) / segment.height) * segment.rows));
      const shade = grid[c * rows + below + n];
      const span = segment.to - segment.from, all = BigInt(segment.rows);
      const from = segment.from + (span * BigInt(n)) / all;
      const to = segment.from + (span * BigInt(n + 1)) / all;
      const perRow = segment.height / segment.rows;
      g.strokeStyle = css("--text");
      g.strokeRect(x(column[0]) - .5, segment.y + segment.height - (n + 1) * perRow - .5,
        x(column[1]) - x(column[0]) + 1, perRow + 1);
      const perSecond = part(shade) * segment.bytes * column[2] / Math.max(1e-6, (column[1] - column[0]) / 1000);
      const inside = namesIn(from, to);
      const lines = inside.slice(0, 3).map((m) => [named(m.name)]);
      if (inside.length > 3) lines.push([`and ${inside.length - 3} more mappings`]);
      lines.push([`${from.toString(16)}-${to.toString(16)}`, "mono"], [when]);
      const percent = part(shade) * 100;
      const share = percent >= 10 ? percent.toFixed(0) : percent >= .1 ? percent.toFixed(1) : "<0.1";
      showTip(event, shade ? `≈ ${rate(perSecond)}, ${share}\u202f% of it each look` : "not written", lines);
      return;
    }
    below += segment.rows;
  }
  showTip(event, rate(columnRate(column)), [
    [`at most ${rate(column[4])} in a look`], [`${bytes(column[5])} in memory`], [when]]);
};
over.addEventListener("pointermove", point);
over.addEventListener("pointerleave", () => { tip.hidden = true; sized(over); });
const mark = (row) => {
  const g = sized(over);
  if (!row) return;
  const from = BigInt("0x" + row.start), to = BigInt("0x" + row.end);
  g.strokeStyle = css("--accent"); g.lineWidth = 2;
  for (const segment of data.segments) {
    const low = from > segment.from ? from : segment.from, high = to < segment.to ? to : segment.to;
    if (low >= high) continue;
    const span = Number(segment.to - segment.from);
    const y1 = segment.y + segment.height * (1 - Number(high - segment.from) / span);
    const y2 = segment.y + segment.height * (1 - Number(low - segment.from) / span);
    g.strokeRect(L.left - 2, y1 - 1, layout.plot + 4, Math.max(2, y2 - y1) + 2);
  }
};

// Words and table ------------------------------------------------------------------------
const drawStrip = (canvas) => {
  const cells = unhex(canvas.dataset.cells), g = canvas.getContext("2d");
  g.fillStyle = css("--soft"); g.fillRect(0, 0, canvas.width, canvas.height);
  cells.forEach((cell, at) => {
    if (!cell) return;
    g.fillStyle = `rgb(${ramp[Math.round(heat((cell / 255) ** 2) * 255)]})`;
    g.fillRect(at * 2, 0, 2, canvas.height);
  });
};
const drawBins = (canvas) => {
  const bins = unhex(canvas.dataset.bins), g = canvas.getContext("2d");
  g.clearRect(0, 0, canvas.width, canvas.height);
  g.fillStyle = css("--accent");
  const width = canvas.width / Math.max(1, bins.length);
  bins.forEach((bin, at) => {
    const height = (bin / 255) * canvas.height;
    g.fillRect(at * width, canvas.height - height, Math.max(1, width - (width > 4 ? 1 : 0)), height);
  });
};
const picture = (width, height, key, value) => {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height; canvas.dataset[key] = value;
  return canvas;
};
const heads = [
  ["mapping", (row) => row.start.padStart(16, "0"), 1], ["size", (row) => row.size, -1],
  ["in memory", (row) => row.resident, -1], ["written", (row) => row.written, -1],
  ["mean rate", (row) => row.written, -1], ["peak rate", (row) => row.peak, -1],
  ["where (low to high)"], ["when"],
];
let sortedBy = 3;
const fillTable = () => {
  const [, key, direction] = heads[sortedBy];
  data.table.sort((a, b) => (key(a) < key(b) ? -direction : key(a) > key(b) ? direction : 0));
  const head = element("tr");
  heads.forEach(([title, sorts], at) => {
    const cell = element("th", title, at === sortedBy ? "sorted" : "");
    if (sorts) cell.onclick = () => { sortedBy = at; fillTable(); draw(); };
    else cell.dataset.plain = "";
    head.append(cell);
  });
  document.querySelector("#table thead").replaceChildren(head);
  const lines = data.table.map((row) => {
    const line = element("tr"), first = element("td");
    const name = element("span", named(row.name), "name");
    name.title = row.name;
    first.append(name, element("span", `${row.start}-${row.end} ${row.protection}`, "where"));
    if (row.untracked) first.append(document.createElement("br"), element("span", row.untracked, "why"));
    line.append(first);
    for (const text of [bytes(row.size), bytes(row.resident), row.written ? bytes(row.written) : "–",
      row.written ? rate(row.written / seconds) : "–", row.peak ? rate(row.peak) : "–"])
      line.append(element("td", text));
    const where = element("td"), when = element("td");
    where.append(picture(128, 16, "cells", row.cells));
    when.append(picture(120, 18, "bins", row.bins));
    line.append(where, when);
    line.onmouseenter = () => mark(row);
    line.onmouseleave = () => mark(null);
    return line;
  });
  document.querySelector("#table tbody").replaceChildren(...lines);
  const hidden = data.mappings - data.table.length;
  byId("rest").textContent = hidden > 0 ? `and ${hidden.toLocaleString("en")} mappings more that wrote less` : "";
};
const fillWords = () => {
  document.title = `${base(data.program)} (${data.pid}): onionskin watch`;
  byId("program").append(base(data.program) + " ", element("small", `process ${data.pid}`));
  const story = byId("story"), bold = (text) => element("b", text);
  const chosen = data.forecast && data.forecast.freeze_ms[data.forecast.strategy];
  const hottest = data.table.length && written
    ? data.table.reduce((best, row) => (row.written > best.written ? row : best)) : null;
  story.append("In ", bold(clock(end - start)), " it wrote ", bold(rate(mean)), " on average");
  if (hottest && hottest.written > written / 10) story.append(", ", bold(Math.round((hottest.written / written) * 100) + "\u202f%"),
    " of it into ", bold(named(base(hottest.name))));
  story.append(". ");
  if (chosen !== null && chosen !== undefined)
    story.append("A snapshot now would stop it for about ", bold(millis(chosen)), ".");
  const tiles = [[rate(mean), "written, on average"], [rate(peak), "in the busiest look"],
    [bytes(data.resident_bytes), "in memory"], [bytes(written), "written in all"],
    [data.mappings.toLocaleString("en"), "mappings seen"]];
  byId("tiles").append(...tiles.map(([value, what]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", value), element("span", what));
    return tile;
  }));
  byId("note").textContent = "Bottom to top: low to high addresses; gaps between mappings are " +
    "not drawn to scale. Right: what each address wrote in all. A page counts once for each look, " +
    "however often it was written.";
  map.setAttribute("aria-label", `Heat map of the memory that process ${data.pid} wrote over ${clock(end - start)}`);
  byId("foot").textContent = `${data.intervals.toLocaleString("en")} looks by ${data.tracking}, ` +
    `pages of ${bytes(data.page_size)}; written by onionskin ${data.version} at ${data.written_at}`;
};
const fillForecast = () => {
  if (!data.forecast) { byId("forecast-panel").hidden = true; return; }
  const say = { precopy: "copies in rounds before, then stops it for what is left",
    fork: "stops it to duplicate it, and reads the duplicate", freeze: "stops it and copies everything" };
  const costs = Object.entries(data.forecast.freeze_ms).filter(([, ms]) => ms !== null);
  const most = Math.max(...costs.map(([, ms]) => ms), 1e-3);
  byId("forecast").append(...costs.map(([name, ms]) => {
    const bar = element("div", undefined, name === data.forecast.strategy ? "bar chosen" : "bar");
    const track = element("div", undefined, "track"), fill = element("div", undefined, "fill");
    const value = element("span", `${millis(ms)} `, "value");
    value.append(element("i", say[name] || ""));
    fill.style.width = `${Math.max(.3, (ms / most) * 45)}%`;
    track.append(fill, value);
    bar.append(element("span", name, "label"), track);
    return bar;
  }));
};

fillWords(); fillForecast(); fillTable(); draw();
dark.addEventListener("change", draw);
let pending = 0;
addEventListener("resize", () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(draw); });
})();
