import { type AnyField, OWN_KEYS, poolEntries, serverEntries } from "./fields.ts";

const INTRODUCTION = `## Upstreams

In proxy mode, \`server\` names one upstream, and \`upstreams\` in the file a pool of up to 100:

\`\`\`yaml
upstreams:
  strategy: least-latency
  defaults:
    auth: {method: bearer, token: "\${FLAGS_TOKEN}"}
    tls: {ca_file: /etc/pbflagd/ca.pem}
  servers:
    - url: https://pbflagd-a:9201
    - url: https://pbflagd-b:9201
      connection: {compression: gzip}
\`\`\`

These settings have no variable and no flag. Errors count servers from 0: \`upstreams.servers[1]\` is the second.
`;

const SERVERS = `Each of \`upstreams.servers\` has the settings below; those without a value of its own it has from \`upstreams.defaults\`, which may hold
any of them but ${[...OWN_KEYS].map((key) => `\`${key}\``).join(" and ")}. Lists and names with values (\`exec.args\`, \`exec.env\`, \`auth.headers\`) are taken whole from one of the
two places, and so is all of \`auth\`.
`;

const HEAD = ["| Key | Value | Default | Meaning |", "|---|---|---|---|"];

/** The section on upstreams of docs/configuration.md, from their tables. */
export function documentPool(): string {
  const pool = poolEntries.map(([key, field]) => documentField(`upstreams.${key}`, field));
  const servers = serverEntries.map(([key, field]) => documentField(key, field));
  return [INTRODUCTION, ...HEAD, ...pool, "", SERVERS, ...HEAD, ...servers, ""].join("\n");
}

function documentField(key: string, field: AnyField): string {
  const fallback = field.fallback === undefined ? "–" : `\`${field.fallback}\``;
  const cells = [`\`${key}\``, describeValue(field), fallback, field.doc];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function describeValue({ shape, kind }: AnyField): string {
  const many = { value: "", list: "a list, each ", names: "values by name, each " };
  return `${many[shape]}${kind.expects}`;
}
