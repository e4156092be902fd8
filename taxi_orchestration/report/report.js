// Draws the pictures again in the available width and applies the controls of the page. Without JavaScript the page shows
// the SVG pictures inside it. vegaEmbed is part of the bundle that read_script makes.
const { data, charts } = JSON.parse(document.getElementById("report-data").textContent);
// The counterpart of `to_columns` in drawing.py.
for (const columns of Object.values(data)) {
  for (const [name, { runs }] of Object.entries(columns)) {
    if (runs) columns[name] = runs.flatMap(([value, count]) => Array(count).fill(value));
  }
}
const views = [];
const chosen = { first_month: 0, last_month: 999999, measure: "pickups", zone: -1, payments: null, boroughs: null };
const MEASURES = ["pickups", "dropoffs", "total_amount"];
const find = (id) => document.getElementById(id);
const checked = (name) => [...document.querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value);

function rows(name) {
  if (name === "totals" && data.zone_months) return zoneTotals();
  const columns = Object.entries(data[name]);
  return columns[0][1].map((_, i) => Object.fromEntries(columns.map(([key, values]) => [key, values[i]])));
}

// The same sums as `zone_totals` in pictures.py, over the selected months.
function zoneTotals() {
  const { month, zone_id, ...amounts } = data.zone_months;
  const sums = new Map();
  const all = { pickups: 0, dropoffs: 0, total_amount: 0 };
  for (let i = 0; i < month.length; i++) {
    if (month[i] < chosen.first_month || month[i] > chosen.last_month) continue;
    const sum = sums.get(zone_id[i]) ?? { pickups: 0, dropoffs: 0, total_amount: 0 };
    for (const measure of MEASURES) {
      sum[measure] += amounts[measure][i];
      all[measure] += amounts[measure][i];
    }
    sums.set(zone_id[i], sum);
  }
  const zones = data.totals;
  return zones.zone_id.map((id, i) => {
    const row = { zone_id: id, zone_name: zones.zone_name[i], borough: zones.borough[i] };
    row.shown = chosen.boroughs === null || chosen.boroughs.includes(row.borough);
    for (const measure of MEASURES) {
      row[measure] = sums.get(id)?.[measure] ?? 0;
      row[`share_${measure}`] = all[measure] ? row[measure] / all[measure] : 0;
    }
    return row;
  });
}

function namesIn(spec) {
  return Object.keys(data).filter((name) => JSON.stringify(spec).includes(`"name":"${name}"`));
}

async function draw(element) {
  const spec = structuredClone(charts[element.dataset.chart]);
  const names = namesIn(spec);
  spec.datasets = Object.fromEntries(names.map((name) => [name, rows(name)]));
  const parameters = (spec.params ?? []).map((param) => param.name).filter((name) => name in chosen);
  for (const param of spec.params ?? []) {
    if (parameters.includes(param.name) && chosen[param.name] !== null) param.value = chosen[param.name];
  }
  const aspect = spec.usermeta?.aspect;
  if (aspect) spec.height = Math.min(spec.height, Math.round(element.clientWidth * aspect));
  const room = document.createElement("div");
  const still = [...element.childNodes];
  element.append(room);
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false,
    tooltip: { disableDefaultStyle: true }, ast: false,
  };
  const { view } = await vegaEmbed(room, spec, options);
  still.forEach((node) => node.remove());
  views.push({ view, names, parameters });
  const signals = signalsOf(view);
  if ("brush" in signals) view.addSignalListener("brush", onBrush);
  if ("picked" in signals) {
    view.addSignalListener("picked", (_, picked) => {
      const zone = (picked.id ?? picked.zone_id)?.[0];
      if (zone !== undefined && zone !== null) choose({ zone });
    });
  }
  element.dataset.drawn = "yes";
}

let brushing;
let clearing = false;
function onBrush(_, { date }) {
  if (clearing) return;
  clearTimeout(brushing);
  brushing = setTimeout(() => {
    if (!date) return choose({ first_month: firstOf(), last_month: lastOf() });
    const [first, last] = date.map((time) => new Date(time)).map((day) => day.getFullYear() * 12 + day.getMonth());
    choose({ first_month: Math.max(first, firstOf()), last_month: Math.min(last, lastOf()) });
  }, 80);
}

// Months selected by name replace the months that were selected by dragging across the bars.
async function chooseMonths(change) {
  clearing = true;
  for (const { view } of views.filter((one) => "brush_x" in signalsOf(one.view))) {
    await view.signal("brush_x", [0, 0]).runAsync();
  }
  clearing = false;
  await choose(change);
}

const signalsOf = (view) => view.getState().signals ?? {};

const firstOf = () => Number(find("first-month")?.options[0].value ?? 0);
const lastOf = () => Number([...(find("last-month")?.options ?? [])].at(-1)?.value ?? 999999);

async function choose(change) {
  Object.assign(chosen, change);
  if (chosen.first_month > chosen.last_month) {
    [chosen.first_month, chosen.last_month] = [chosen.last_month, chosen.first_month];
    change = { ...change, first_month: chosen.first_month, last_month: chosen.last_month };
  }
  showChoice();
  document.documentElement.dataset.busy = "yes";
  const moved = "first_month" in change || "last_month" in change || "boroughs" in change;
  for (const { view, names, parameters } of views) {
    for (const name of parameters) if (name in change && chosen[name] !== null) view.signal(name, chosen[name]);
    if (moved && names.includes("totals")) view.data("totals", rows("totals"));
    await view.runAsync();
  }
  document.documentElement.dataset.busy = "no";
}

// A month without a loaded file is no option: the nearest option represents it.
function showChoice() {
  const first = find("first-month");
  if (first) {
    const months = [...first.options].map((option) => Number(option.value));
    first.value = months.find((month) => month >= chosen.first_month) ?? months.at(-1);
    find("last-month").value = months.findLast((month) => month <= chosen.last_month) ?? months[0];
    let trips = 0, amount = 0, count = 0;
    data.months?.month.forEach((month, i) => {
      if (month < chosen.first_month || month > chosen.last_month) return;
      trips += data.months.trips[i];
      amount += data.months.total_amount[i];
      count += 1;
    });
    const say = (value) => new Intl.NumberFormat("en-US").format(Math.round(value));
    find("chosen").textContent = `${say(count)} ${count === 1 ? "month" : "months"}: ${say(trips)} trips, $${say(amount)}`;
  }
  if (find("zone-choice")) find("zone-choice").value = chosen.zone;
}

function toCsv(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => {
    let text = cell.textContent.trim();
    if (cell.className === "n") text = text === "–" ? "" : text.replace(/[$,]/g, "");
    // A spreadsheet would read such a text as a formula.
    else if (/^[=+\-@\t]/.test(text)) text = `'${text}`;
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",")).join("\r\n");
}

async function copy(button) {
  const text = toCsv(find(button.dataset.table));
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Some browsers deny the clipboard to a page opened from a file.
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}

function listen() {
  const on = (element, act) => element?.addEventListener("change", act);
  on(find("first-month"), (event) => chooseMonths({ first_month: Number(event.target.value) }));
  on(find("last-month"), (event) => chooseMonths({ last_month: Number(event.target.value) }));
  on(find("zone-choice"), (event) => choose({ zone: Number(event.target.value) }));
  find("all-months")?.addEventListener("click", () => chooseMonths({ first_month: firstOf(), last_month: lastOf() }));
  document.querySelectorAll("input[name=measure]").forEach((input) => on(input, () => choose({ measure: input.value })));
  document.querySelectorAll("input[name=borough]").forEach((input) => on(input, () => choose({ boroughs: checked("borough") })));
  document.querySelectorAll("input[name=payment]").forEach((input) => on(input, () => choose({ payments: checked("payment") })));
  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));
  document.querySelectorAll("form").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
}

document.documentElement.classList.add("js");
document.querySelectorAll("form").forEach((form) => form.reset());
if (find("zone-choice")) chosen.zone = Number(find("zone-choice").value);
Object.assign(chosen, { first_month: firstOf(), last_month: lastOf() });
listen();
showChoice();
for (const element of document.querySelectorAll("[data-chart]")) await draw(element);
document.documentElement.dataset.drawn = "yes";
