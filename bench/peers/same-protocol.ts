import { askOnce } from "../load/ask-once.ts";
import type { Load } from "../load/load.ts";
import { checkAnswers, createLoad, questionsOf } from "../load/questions.ts";
import { rememberEntities } from "../load/remember-entities.ts";
import type { ServerProcess } from "../servers/server-process.ts";
import type { Peer } from "./peer.ts";

/** A server of the same service, the daemon itself included, that has all entities in memory. */
export async function openSameProtocol(name: string, server: ServerProcess): Promise<Peer> {
  await rememberEntities(server.port);
  return {
    name,
    server,
    async askedFor(protocol, questionName) {
      const question = questionsOf(protocol).get(questionName);
      if (question === undefined) return undefined;
      const load = createLoad(protocol, question);
      await checkAnswers(server.port, load, { protocol, question, mayBeStale: true });
      await askOnceEach(server.port, load);
      return load;
    },
  };
}

const AT_ONCE = 16;

/** pbflags remembers what it was asked for, flag by flag: nobody is to be measured while it still learns. */
async function askOnceEach(port: number, load: Load): Promise<void> {
  const different = [
    ...new Map(load.bodies.map((body) => [Buffer.from(body).toString("latin1"), body])).values(),
  ];
  for (let i = 0; i < different.length; i += AT_ONCE)
    await Promise.all(different.slice(i, i + AT_ONCE).map((body) => askOnce(port, load, body)));
}
