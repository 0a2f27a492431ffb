import { readFile } from "node:fs/promises";
import { parse } from "yaml";

/** What of a service in docker-compose.yml matters to whoever runs its command without a container. */
export interface Service {
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: object;
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { readonly source: string; readonly target: string })[];
}

export interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  /** The commands that the comment at the top tells. */
  readonly commands: readonly string[];
}

export async function loadCompose(): Promise<Compose> {
  const text = await readFile(new URL("../../docker-compose.yml", import.meta.url), "utf8");
  const { services, volumes } = parse(withDefaults(text), { merge: true }) as Omit<Compose, "commands">;
  const commands = [...text.matchAll(/^# {3}(\S.*)$/gm)].map(([, command = ""]) => command);
  return { services, volumes, commands };
}

/** `${NAME:-default}` as it is where NAME is not set. */
function withDefaults(text: string): string {
  return text.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1");
}
