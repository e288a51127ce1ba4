// Reads [{"store": "loki" | "tempo", "expr": ...}] and prints for each what Grafana's grammar makes of it.
import { readFileSync } from 'node:fs';
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';

const parsers = { loki: logql, tempo: traceql };

function read({ store, expr }) {
  const errors = [];
  const names = [];
  parsers[store].parse(expr).iterate({
    enter(node) {
      if (node.type.isError) {
        errors.push(`${expr.slice(0, node.from)} <-- here`);
      } else if (node.name === 'Identifier') {
        const scope = store === 'tempo' ? node.node.parent?.firstChild?.name.toLowerCase() + '.' : '';
        names.push(scope + expr.slice(node.from, node.to));
      }
    },
  });
  return { errors, names };
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(read)));
