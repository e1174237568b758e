(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('catalogue').textContent);
  const n = data.ids.length;

  // Text goes in as text, never as markup.
  const element = (tag, text) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const item = (tree, leaf) => (leaf < n ? leaf : tree.extra[leaf - n]);
  const code = (tree, leaf) => tree.codes.slice(leaf * tree.levels, (leaf + 1) * tree.levels);
  const quiet = (text) => {
    const made = element('span', text);
    made.className = 'quiet';
    return made;
  };
  const line = (of, note) => {
    const made = element('li', data.titles[of] + ' ');
    made.append(quiet(`${data.ids[of]}, ${data.counts[of]}× in training, ${note}`));
    return made;
  };
  const group = (tree, leaves, level) => {
    const children = new Map();
    for (const leaf of leaves) {
      const token = tree.codes[leaf * tree.levels + level];
      if (!children.has(token)) children.set(token, []);
      children.get(token).push(leaf);
    }
    return [...children].sort((a, b) => a[0] - b[0]);
  };
  const items = (count) => `${count} item${count === 1 ? '' : 's'}`;

  // A list of what comes next: items, or tokens with several items behind them.
  const open = (tree, leaves, level) => {
    const list = element('ul');
    for (const [token, below] of group(tree, leaves, level)) {
      if (below.length === 1 || level + 1 === tree.levels) {
        for (const leaf of below) {
          list.append(line(item(tree, leaf), 'code ' + code(tree, leaf).join('·')));
        }
      } else {
        const entry = element('li');
        entry.append(branch(tree, below, level, `${token} `, items(below.length)));
        list.append(entry);
      }
    }
    return list;
  };
  // Filled when it is first opened.
  const branch = (tree, leaves, level, name, note) => {
    const details = element('details');
    const summary = element('summary');
    summary.append(element('strong', name), quiet(note));
    details.append(summary);
    details.addEventListener('toggle', () => {
      if (details.open && details.childElementCount === 1) {
        details.append(open(tree, leaves, level + 1));
      }
    });
    return details;
  };

  for (const tree of data.streams) {
    const place = document.getElementById('tree-' + tree.name);
    const leaves = Array.from({ length: tree.codes.length / tree.levels }, (_, leaf) => leaf);
    const first = new Map(group(tree, leaves, 0));
    tree.tokens.forEach(([count, label], token) => {
      const note = items(count) + (label ? ' · ' + label : '');
      const below = first.get(token) || [];
      place.append(
        tree.levels === 1 ? open(tree, below, 0) : branch(tree, below, 0, `${token} `, note)
      );
    });
  }

  const MOST = 20;
  const input = document.getElementById('find');
  const found = document.getElementById('found');
  input.addEventListener('input', () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    found.replaceChildren();
    if (!words.length) return;
    let matches = 0;
    for (let of = 0; of < n; of += 1) {
      const text = (data.titles[of] + ' ' + data.ids[of]).toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
      matches += 1;
      if (matches <= MOST) {
        const codes = data.streams.map((tree) => `${tree.name} ${code(tree, of).join('·')}`);
        found.append(line(of, codes.join(', ')));
      }
    }
    const more = matches > MOST ? `, of which ${MOST} are shown` : '';
    found.append(element('li', `${items(matches)} found${more}`));
  });
})();
