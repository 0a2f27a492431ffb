import { PLUGIN_PROTOCOL_VERSION } from "./announcement.ts";

/** What a program needs to find others, its user's files, and its language. Nothing in these is secret. */
const HANDED_ON = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"] as const;

/** All the variables that a plug-in gets: `own` are those that its settings name. */
export function pluginEnvironment(
  ours: Readonly<Record<string, string | undefined>>,
  own: Readonly<Record<string, string>>,
  socket: string,
): Readonly<Record<string, string>> {
  const handedOn = HANDED_ON.flatMap((name) => {
    const value = ours[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(handedOn),
    ...own,
    PBFLAGD_PLUGIN_ADDRESS: `unix://${socket}`,
    PBFLAGD_PLUGIN_PROTOCOL: PLUGIN_PROTOCOL_VERSION,
  };
}
