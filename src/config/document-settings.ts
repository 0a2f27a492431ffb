import {
  fallbackOf,
  keysOf,
  type Setting,
  type SettingKey,
  settingEntries,
  settingGroups,
  toVariable,
} from "./settings.ts";
import { documentPool } from "./upstreams/document-pool.ts";

const INTRODUCTION = `# Configuration

Generated from the table in \`src/config/settings.ts\`; \`src/config/document-settings.test.ts\` says how. Do not edit.

A setting is given on the command line, in the environment or in a YAML file; the command line goes over
the environment, that over the file, that over the default. The file is named by \`--config\`, or else by
\`PBFLAGS_CONFIG\`; [config/root.yaml](../config/root.yaml) and [config/proxy.yaml](../config/proxy.yaml) are
examples of it, with every setting.

- In the file, \`cache.kill_ttl\` is \`kill_ttl\` below \`cache\`; the one word \`cache.kill_ttl\` works as well.
- Its flag on the command line is \`--cache-kill-ttl\`, its variable \`PBFLAGS_CACHE_KILL_TTL\`. An empty variable counts as unset.
- Unknown keys, values of another type and settings that contradict each other are reported all at once, each
  under the name that was used, with file and line. An unknown \`PBFLAGS_\` variable gives a warning.
- In the file, \`\${NAME}\` stands for the value of the variable \`NAME\`, which must be set. \`$\${\` stands for \`\${\`.
- Durations are \`500ms\`, \`30s\`, \`1m30s\`, \`1.5h\`, \`0\`; fractions of a millisecond are rounded up.
- Sizes are \`1048576\`, \`1MiB\`, \`16KiB\`, \`64kB\`.
- Addresses are \`localhost:9201\`, \`:9201\` (all interfaces), \`[::1]:9201\`, \`unix:///run/pbflagd.sock\`.
- Passwords in URLs, what stands below \`auth\` and what programs get in \`exec.env\` are not shown, neither by
  \`pbflagd config print\` nor in errors and logs; where a variable stands for all of a value, \`config print\` shows its name.
- The file is YAML 1.2, one document of at most 32 KiB, without aliases and tags of its own.

\`serve\` needs one of \`database\` (root mode), \`server\` and \`upstreams\` (proxy mode), and in root mode \`descriptors\`. A proxy
whose upstream is pbflagd takes the descriptor set from there. \`pbflagd config check\` says what is wrong,
\`pbflagd config print\` what is in force and where it was set.

Tracing follows OpenTelemetry's own variables, \`OTEL_EXPORTER_OTLP_ENDPOINT\`, \`OTEL_SERVICE_NAME\` and so on.
`;

const GROUP_TITLES: Readonly<Record<string, string>> = {
  "": "General",
  cache: "Cache",
  limits: "Limits",
  health: "Health checks",
};

/** docs/configuration.md, from the table of settings. */
export function documentSettings(): string {
  const groups = ["", ...settingGroups].map(documentGroup);
  return [INTRODUCTION, ...groups, documentPool(), documentReload()].join("\n");
}

/** The heading under which a setting stands, in the documentation and in `--help`. */
export function titleOf(key: SettingKey): string {
  return GROUP_TITLES[groupOf(key)] ?? groupOf(key);
}

function documentReload(): string {
  const live = settingEntries.filter(([, setting]) => setting.live).map(([key]) => code(key));
  return `## Changing the configuration of a running daemon

A daemon reads its configuration again when the file changes, and on SIGHUP: the same command line and environment, and the
file as it is then. ${["`upstreams`", ...live].join(", ").replace(/, ([^,]*)$/, " and $1")} change while it
runs. All others need a restart; the log says by name which of them have changed and are not in force. Variables need one
too: a running process keeps the environment it was started with.

A configuration that cannot be used changes nothing: the log and the check \`configuration\` in \`/readyz\` say why.
Upstreams are compared by name. What stays as it is keeps its connections, its score and its circuit breaker;
\`upstreams.reload_strategy\` says how the others are replaced.
`;
}

function documentGroup(group: string): string {
  const rows = settingEntries.filter(([key]) => groupOf(key) === group).map(documentRow);
  const head = ["| Key | Variable | Value | Default | Meaning |", "|---|---|---|---|---|"];
  return [`## ${GROUP_TITLES[group] ?? group}`, "", ...head, ...rows, ""].join("\n");
}

function documentRow([key, setting]: readonly [SettingKey, Setting]): string {
  const keys = keysOf(key).map(code).join(", ");
  const variables = keysOf(key)
    .map((name) => code(toVariable(name)))
    .join(", ");
  const cells = [keys, variables, setting.kind.expects, describeDefault(setting), describe(setting)];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function describeDefault(setting: Setting): string {
  const { dev, terminal } = setting.fallbackFor;
  const others = [
    dev === undefined ? [] : [`${code(dev)} in dev`],
    terminal === undefined ? [] : [`${code(terminal)} on a terminal`],
  ].flat();
  const fallback = fallbackOf(setting, { dev: false, terminal: false });
  return [fallback === undefined ? "–" : code(fallback), ...others].join(", ");
}

function describe({ doc, mode, later }: Setting): string {
  const scope = { root: " Root mode only.", proxy: " Proxy mode only.", dev: " `pbflagd dev` only." };
  return `${doc}${mode === undefined ? "" : scope[mode]}${later ? " Without effect in this version." : ""}`;
}

function groupOf(key: string): string {
  return key.includes(".") ? key.slice(0, key.indexOf(".")) : "";
}

function code(text: string): string {
  return `\`${text}\``;
}
