// The page's behaviour: theme, sorting and filters of the table, highlighted lines, maps, printing.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // Theme: the system's until the button says otherwise; kept if the browser lets a file keep it.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = { get: () => null, set: () => {} };
  try {
    const store = window.localStorage;
    kept.get = () => store.getItem("medfocus-theme");
    kept.set = (value) => store.setItem("medfocus-theme", value);
  } catch {
    // A page from a mail may have no storage.
  }
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  if (["dark", "light"].includes(kept.get())) root.dataset.theme = kept.get();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    kept.set(root.dataset.theme);
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // The results table. A row and its clean row are one tbody, so they move together.
  const table = document.getElementById("results-table");
  if (table) {
    const original = all("tbody", table);
    const lines = all("tbody.line", table);
    const heads = all("thead tr:last-child th", table);
    const filters = all("[data-filter]");
    const cells = (line) => {
      // A note spans several columns, and has no order in any of them.
      const found = [];
      for (const cell of line.rows[0].cells) {
        found.push(cell);
        for (let n = 1; n < cell.colSpan; n += 1) found.push(cell);
      }
      return found;
    };
    const order = (line, column, text) => {
      const cell = cells(line)[column];
      if (text) return cell.querySelector("bdi").textContent;
      return cell.dataset.order === undefined ? null : Number(cell.dataset.order);
    };
    const compare = (a, b, sign) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    };
    const showGroups = () => {
      let heading = null;
      let shown = false;
      for (const body of original) {
        if (body.classList.contains("group")) {
          if (heading) heading.hidden = !shown;
          heading = body;
          shown = false;
        } else {
          shown = shown || !body.hidden;
        }
      }
      if (heading) heading.hidden = !shown;
    };
    const sort = (head) => {
      const text = head.dataset.kind === "text";
      const [first, second] = text ? ["ascending", "descending"] : ["descending", "ascending"];
      const now = head.getAttribute("aria-sort");
      const next = now === first ? second : now === second ? null : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      table.classList.toggle("sorted", next !== null);
      let sorted = original;
      if (next) {
        head.setAttribute("aria-sort", next);
        const column = heads.indexOf(head);
        const sign = next === "ascending" ? 1 : -1;
        const keyed = lines.map((line) => [order(line, column, text), line]);
        sorted = keyed.sort((a, b) => compare(a[0], b[0], sign)).map((one) => one[1]);
      }
      table.append(...sorted);
    };
    const filter = () => {
      for (const line of lines) {
        line.hidden = filters.some((one) => one.value && line.dataset[one.dataset.filter] !== one.value);
      }
      showGroups();
      const shown = lines.filter((line) => !line.hidden).length;
      document.getElementById("row-count").textContent = `${shown} of ${lines.length} rows`;
    };
    heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sort(head)));
    filters.forEach((one) => one.addEventListener("change", filter));
    filter();
  }

  // Lines of the accuracy figure: a name in the legend brings its line to the front.
  const curves = all("[data-curve]");
  const pressed = (buttons) => buttons.filter((one) => one.getAttribute("aria-pressed") === "true");
  const showCurves = (hovered) => {
    const chosen = new Set([...pressed(curves), ...(hovered ? [hovered] : [])].map((one) => one.dataset.curve));
    for (const part of all(".curves [id*='-curve-']")) {
      const number = part.id.match(/-curve-(\d+)-/)[1];
      part.classList.toggle("off", chosen.size > 0 && !chosen.has(number));
      part.classList.toggle("on", chosen.has(number));
    }
  };
  for (const button of curves) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      showCurves(null);
    });
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && showCurves(button));
    button.addEventListener("pointerleave", () => showCurves(null));
  }

  // Maps: the nearest image is shown, under the pointer or reached by the arrow keys.
  const store = document.getElementById("map-data");
  const data = store ? JSON.parse(store.textContent) : { maps: [], pictures: [] };
  all("[data-map]").forEach((box, index) => {
    const own = data.maps[index];
    const plane = box.querySelector(".plane");
    const points = all("g", plane);
    const ring = box.querySelector(".ring");
    const shown = box.querySelector(".shown");
    const names = all("[data-class]", box);
    const reach = 60;
    let places = own.layouts[0];
    let current = -1;
    const isOut = (n) => points[n].classList.contains("off");
    const show = (n) => {
      if (n < 0 || n === current) return;
      current = n;
      const picture = shown.querySelector("img");
      const label = names[own.labels[n]].textContent;
      const source = data.pictures[own.pictures[n]];
      if (source) picture.src = source;
      picture.alt = `${label}, ${own.names[n]}`;
      shown.querySelector(".label").textContent = `${label}, ${own.sides[n] === "test" ? "test" : "training"} image`;
      shown.querySelector(".name").textContent = own.names[n];
      all(".label, .name", shown).forEach((part) => (part.hidden = false));
      // On a machine without the images there is none.
      picture.hidden = !source;
      shown.querySelector(".hint").hidden = true;
      place();
    };
    const place = () => {
      points.forEach((point, n) => point.setAttribute("transform", `translate(${places[n].join(" ")})`));
      ring.classList.toggle("there", current >= 0);
      if (current >= 0) ring.setAttribute("transform", `translate(${places[current].join(" ")})`);
    };
    const nearest = (x, y, farthest, allowed = () => true) => {
      let best = -1;
      let least = farthest;
      places.forEach(([px, py], n) => {
        const distance = Math.hypot(px - x, py - y);
        if (distance < least && !isOut(n) && allowed(px - x, py - y, n)) [best, least] = [n, distance];
      });
      return best;
    };
    const point = (event) => {
      const frame = plane.getBoundingClientRect();
      const scale = 1000 / frame.width;
      show(nearest((event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale, reach));
    };
    plane.addEventListener("pointermove", point);
    plane.addEventListener("pointerdown", point);
    plane.addEventListener("focus", () => current < 0 && plane.matches(":focus-visible") && show(nearest(500, 500, 2000)));
    const directions = {
      ArrowLeft: (x, y) => -x >= Math.abs(y),
      ArrowRight: (x, y) => x >= Math.abs(y),
      ArrowUp: (x, y) => -y >= Math.abs(x),
      ArrowDown: (x, y) => y >= Math.abs(x),
    };
    plane.addEventListener("keydown", (event) => {
      const towards = directions[event.key];
      if (!towards) return;
      event.preventDefault();
      const [x, y] = current < 0 ? [500, 500] : places[current];
      const next = nearest(x, y, 2000, (dx, dy, n) => n !== current && (dx || dy) && towards(dx, dy));
      show(next);
    });
    for (const button of names) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        const chosen = new Set(pressed(names).map((one) => Number(one.dataset.class)));
        points.forEach((one, n) => one.classList.toggle("off", chosen.size > 0 && !chosen.has(own.labels[n])));
      });
    }
    all("input", box).forEach((input) =>
      input.addEventListener("change", () => {
        places = own.layouts[Number(input.value)];
        place();
      }),
    );
  });

  // The section that is read is marked in the navigation.
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver(
    (seen) => {
      for (const one of seen) {
        if (!one.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(one.target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  links.forEach((_, id) => watch.observe(document.getElementById(id)));

  // Paper shows everything.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((one) => (one.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));
})();
