import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmod, cp, mkdir, rm, symlink } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { inject } from "vitest";
import {
  finalStage,
  type Instruction,
  lastOf,
  loadDockerfile,
  type Stage,
  variablesOf,
} from "./dockerfile.ts";
import { copyProductionPackages } from "./production-packages.ts";

const root = new URL("../..", import.meta.url).pathname;

/** The files of the image in a folder, without a container around them. */
export interface Image extends AsyncDisposable {
  /** Where a path of the image really is. */
  path(inImage: string): string;
  /** Runs the entry point, as the image's user where we may choose one. */
  spawn(args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess;
  /** The HEALTHCHECK's command. */
  readonly healthCommand: readonly string[];
}

/** Copies what the Dockerfile's last stage copies, and nothing else. */
export async function openImage(): Promise<Image> {
  const stages = await loadDockerfile();
  const stage = finalStage(stages);
  const rootfs = join(inject("runFolder"), "image");
  const workdir = join(rootfs, lastOf(stage, "WORKDIR").text);
  await mkdir(workdir, { recursive: true });
  for (const copy of stage.instructions.filter(({ name }) => name === "COPY")) {
    await follow(copy, workdir, stages);
  }
  for (const [, from = "", to = ""] of linksOf(stage)) {
    await mkdir(dirname(join(rootfs, to)), { recursive: true });
    await symlink(join(rootfs, from), join(rootfs, to));
  }
  await promisify(execFile)("chmod", ["-R", "a+rX", rootfs]);
  await chmod(rootfs, 0o755);

  const account = await accountOf(stage);
  const [entry = ""] = lastOf(stage, "ENTRYPOINT").words;
  return {
    path: (inImage) => join(rootfs, inImage),
    spawn: (args, env) =>
      spawn(entry, args, {
        ...account,
        cwd: workdir,
        env: { ...variablesOf(stage), PATH: pathIn(rootfs), ...env },
        stdio: ["ignore", "pipe", "pipe"],
      }),
    healthCommand: lastOf(stage, "HEALTHCHECK").words,
    [Symbol.asyncDispose]: () => rm(rootfs, { recursive: true, force: true, maxRetries: 10 }),
  };
}

/** Other stages have made these; here they were made before the tests. */
const MADE_BEFORE: Readonly<Record<string, string>> = { "/app/dist": "dist" };

async function follow(copy: Instruction, workdir: string, stages: readonly Stage[]): Promise<void> {
  const [from = "", to = ""] = copy.words;
  const target = join(workdir, to);
  const stageName = copy.options["from"];
  if (stageName === undefined) {
    await cp(join(root, from), to.endsWith("/") ? join(target, from) : target, { recursive: true });
  } else if (from === "/app/node_modules") {
    await copyProductionPackages(dirname(target));
  } else {
    const made = MADE_BEFORE[from];
    if (made === undefined || !stages.some(({ name }) => name === stageName)) {
      throw new Error(`Cannot follow COPY --from=${stageName} ${copy.text}: who makes it?`);
    }
    await cp(join(root, made), target, { recursive: true });
  }
}

function linksOf(stage: Stage): readonly RegExpExecArray[] {
  const commands = stage.instructions.filter(({ name }) => name === "RUN").map(({ text }) => text);
  return commands.flatMap((command) => [...command.matchAll(/ln -s (\S+) (\S+)/g)]);
}

/** The image's own programs, and Node. */
function pathIn(rootfs: string): string {
  return [join(rootfs, "/usr/local/bin"), dirname(process.execPath), "/usr/bin", "/bin"].join(":");
}

/** The user that the image names, if we are allowed to become that one and it gets to Node. */
async function accountOf(stage: Stage): Promise<{ uid: number; gid: number } | undefined> {
  if (userInfo().uid !== 0) return undefined;
  const [uid = 0, gid = 0] = lastOf(stage, "USER").text.split(":").map(Number);
  try {
    await promisify(execFile)(process.execPath, ["--version"], { uid, gid, cwd: "/" });
    return { uid, gid };
  } catch {
    console.log(`not as the image's user: uid ${uid} may not run ${process.execPath}`);
    return undefined;
  }
}
