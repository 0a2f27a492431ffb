import { cpus, loadavg, totalmem } from "node:os";

/** Date and machine, as every table names them. */
export function describeMachine(): string {
  // Not those that this process may use: a benchmark keeps itself to one.
  const cores = cpus();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const loads = loadavg().map((load) => load.toFixed(1));
  const today = new Date().toISOString().slice(0, 10);
  return `${today}, ${cores[0]?.model.trim()}, ${cores.length} cores, ${memory}, Node ${process.versions.node}, load average at the end ${loads.join(" ")}`;
}
