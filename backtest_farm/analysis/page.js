"use strict";
(() => {
  const page = document.documentElement;
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const block = (name) => {
    const element = document.getElementById(`data-${name}`);
    return element ? JSON.parse(element.textContent) : null;
  };
  const decimals = block("decimals");
  const DASH = "\u2013";

  function shown(value, unit, fewer = 0) {
    if (value === null || value === undefined) return DASH;
    if (unit === "words" || unit === "number") return String(value);
    const scale = unit === "percent" ? 100 : 1;
    const digits = Math.max(decimals[unit] + fewer, 0);
    const number = (value * scale).toLocaleString("en-US", {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
    return number.replace(/^-(?=[0.,]*$)/, "") + (unit === "percent" ? "%" : unit === "multiple" ? "\u00d7" : "");
  }

  // -------------------------------------------------------------------------------- leaderboard
  function leaderboard(board) {
    const table = find("table", board);
    const { columns, rows, shown: visible, sort } = block("leaders");
    const searched = find("#filter");
    const counted = find("#counted");
    const more = find("#more");
    const STEP = 25;
    const state = { at: sort.column, down: sort.descending, most: STEP };
    const text = (row, at) => shown(row[at], columns[at].unit);
    const plain = rows.map((row) => row.map((value, at) => (value === null ? "" : text(row, at))).join(" ").toLowerCase());

    // "n=10 sharpe>0.5 month": conditions on columns, and words that must stand anywhere in the row.
    function condition(word) {
      const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(word);
      const at = parts ? columns.findIndex((column) => column.name.toLowerCase() === parts[1]) : -1;
      if (at < 0) return (row, place) => plain[place].includes(word);
      const [, , sign, right] = parts;
      const percent = right.endsWith("%");
      const number = parseFloat(right) / (percent ? 100 : 1);
      if (sign === "=") {
        return (row) => String(row[at] ?? "not set").toLowerCase() === right || (!Number.isNaN(number) && Number(row[at]) === number && row[at] !== null);
      }
      const tests = { "<": (v) => v < number, ">": (v) => v > number, "<=": (v) => v <= number, ">=": (v) => v >= number };
      return (row) => row[at] !== null && tests[sign](Number(row[at]));
    }

    function compare(a, b) {
      const [x, y] = [rows[a][state.at], rows[b][state.at]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const [p, q] = [Number(x), Number(y)];
      const words = Number.isNaN(p) || Number.isNaN(q);
      const order = words ? String(x).localeCompare(String(y), "en", { numeric: true }) : p - q;
      return (state.down ? -order : order) || a - b;
    }

    function draw() {
      const conditions = searched.value.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
      const kept = [...rows.keys()].filter((place) => conditions.every((test) => test(rows[place], place)));
      const order = kept.sort(compare);
      const body = document.createElement("tbody");
      for (const place of order.slice(0, state.most)) {
        const line = body.insertRow();
        if (place === 0) line.className = "winner";
        for (const at of visible) {
          const cell = line.insertCell();
          cell.textContent = text(rows[place], at);
          if (columns[at].unit === "words") cell.className = "words";
        }
      }
      const heads = document.createElement("tr");
      for (const at of visible) {
        const head = document.createElement("th");
        const button = document.createElement("button");
        head.scope = "col";
        head.className = columns[at].unit === "words" ? "sortable words" : "sortable";
        head.dataset.column = columns[at].name;
        button.textContent = columns[at].title.replaceAll(".", ".\u200b");
        button.title = columns[at].name;
        button.addEventListener("click", () => {
          state.down = state.at === at ? !state.down : columns[at].unit !== "words" && !columns[at].low;
          state.at = at;
          draw();
        });
        if (state.at === at) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        head.append(button);
        heads.append(head);
      }
      table.tHead.replaceChildren(heads);
      table.replaceChild(body, table.tBodies[0]);
      const now = Math.min(order.length, state.most);
      counted.textContent = `${now.toLocaleString("en-US")} of ${order.length.toLocaleString("en-US")} rows`;
      more.hidden = order.length <= state.most;
    }

    searched.addEventListener("input", () => { state.most = STEP; draw(); });
    more.addEventListener("click", () => { state.most += 4 * STEP; draw(); });
    columns.forEach((column, at) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = visible.includes(at);
      box.dataset.column = column.name;
      box.addEventListener("change", () => {
        const wanted = all("input", find("#columns")).map((each, place) => (each.checked ? place : -1));
        visible.splice(0, visible.length, ...wanted.filter((place) => place >= 0));
        draw();
      });
      label.append(box, ` ${column.title}`);
      find("#columns").append(label);
    });
    draw();
  }

  // ----------------------------------------------------------------------------------- heat maps
  function colour(scale, place) {
    const at = Math.min(Math.max(place, 0), 1) * (scale.length - 1);
    const low = Math.min(Math.floor(at), scale.length - 2);
    const part = (hex, i) => parseInt(hex.slice(i, i + 2), 16);
    const mix = [1, 3, 5].map((i) => part(scale[low], i) + (part(scale[low + 1], i) - part(scale[low], i)) * (at - low));
    return `rgb(${mix.map(Math.round).join(" ")})`;
  }

  function heatMaps() {
    const { scale, metrics, pairs } = block("maps");
    const [metric, over] = [find("#metric"), find("#over")];
    function draw() {
      const kind = metrics[metric.value];
      for (const picture of all("svg[data-pair]")) {
        const values = pairs[picture.dataset.pair][metric.value][over.value];
        const known = values.filter((value) => value !== null);
        const [low, high] = [Math.min(...known), Math.max(...known)];
        const best = kind.low ? low : high;
        let marked = false;
        for (const cell of all("g[data-cell]", picture)) {
          const value = values[cell.dataset.cell];
          const box = find("rect", cell);
          const place = value === null ? 0 : high > low ? (value - low) / (high - low) : 0.5;
          const shade = kind.low ? 1 - place : place;
          const isBest = !marked && value !== null && value === best;
          marked ||= isBest;
          box.setAttribute("fill", value === null ? "none" : colour(scale, shade));
          box.setAttribute("class", value === null ? "missing" : isBest ? "best" : "");
          find("title", cell).textContent = `${cell.dataset.where}: ${shown(value, kind.unit)}, ${over.value}`;
          const number = find("text", cell);
          if (number) {
            number.textContent = value === null ? "" : shown(value, kind.unit, -1);
            number.setAttribute("class", shade > 0.55 ? "on-light" : "on-dark");
          }
        }
        find(".poor", picture).textContent = shown(kind.low ? high : low, kind.unit);
        find(".good", picture).textContent = shown(best, kind.unit);
      }
      for (const name of all(".map-name")) name.textContent = `${kind.title}, ${over.value}`;
    }
    metric.addEventListener("change", draw);
    over.addEventListener("change", draw);
  }

  // -------------------------------------------------------------------- reading values off curves
  function readable(picture, { times, lines, unit, left, right }) {
    const figure = picture.closest("figure");
    const width = picture.viewBox.baseVal.width;
    const height = picture.viewBox.baseVal.height;
    const box = document.createElement("div");
    const cross = document.createElementNS("http://www.w3.org/2000/svg", "line");
    box.className = "read";
    box.hidden = true;
    cross.setAttribute("class", "cross");
    cross.setAttribute("y1", 20);
    cross.setAttribute("y2", height - 34);
    cross.setAttribute("visibility", "hidden");
    picture.append(cross);
    figure.append(box);
    const [first, last] = [Date.parse(times[0]), Date.parse(times[times.length - 1])];
    const places = times.map((time) => (Date.parse(time) - first) / (last - first || 1));
    picture.addEventListener("pointermove", (event) => {
      const frame = picture.getBoundingClientRect();
      const part = (((event.clientX - frame.left) / frame.width) * width - left) / (right - left);
      let at = places.findIndex((place) => place >= part);
      if (at < 0) at = places.length - 1;
      const x = left + places[at] * (right - left);
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      cross.setAttribute("visibility", "visible");
      const rows = lines.map((line) => `${line.label}: ${shown(line.values[at], unit)}`);
      box.textContent = [times[at].replace("T00:00:00", "").replace("T", " "), ...rows].join("\n");
      box.hidden = false;
      const offset = figure.getBoundingClientRect();
      const pixel = frame.left - offset.left + (x / width) * frame.width;
      const shift = pixel > frame.width / 2 ? -box.offsetWidth - 12 : 12;
      box.style.left = `${pixel + shift}px`;
      box.style.top = `${event.clientY - offset.top + 12}px`;
    });
    picture.addEventListener("pointerleave", () => {
      box.hidden = true;
      cross.setAttribute("visibility", "hidden");
    });
  }

  function curves() {
    const charts = block("curves");
    for (const picture of all("svg[data-chart]")) readable(picture, charts[picture.dataset.chart]);
    for (const button of all("button[data-toggles]")) {
      button.addEventListener("click", () => {
        const pressed = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", pressed);
        button.textContent = pressed ? "Linear scale" : "Logarithmic scale";
        for (const picture of all(`svg[data-scale][data-chart="${button.dataset.toggles}"]`)) {
          picture.toggleAttribute("hidden", (picture.dataset.scale === "log") !== pressed);
        }
      });
    }
  }

  find("#theme")?.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = page.dataset.theme ?? (dark ? "dark" : "light");
    page.dataset.theme = now === "dark" ? "light" : "dark";
  });
  const board = find("#leaderboard");
  if (board) leaderboard(board);
  if (block("maps")) heatMaps();
  if (block("curves")) curves();
})();
