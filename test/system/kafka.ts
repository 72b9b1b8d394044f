import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts, jarsOf, missing, scratch } from './java.ts'
import { startServer, type Server } from './server.ts'

/** A real broker (KRaft, one process) on free ports of the loopback, its data in a folder of its own. */
export interface KafkaServer {
  brokers: string[]
  readonly pid: number
  /** Where its topics lie. */
  folder: string
  /** Where its data lies, below `data`. */
  directory: string
  /** Ends it and removes its data. */
  stop(): Promise<void>
  /** kill -9; the data stays. */
  kill(): Promise<void>
  /** SIGSTOP and SIGCONT: a broker that neither answers nor ends its connections. */
  signal(what: 'SIGSTOP' | 'SIGCONT'): void
  /** Starts it again on the same ports and data. */
  restart(): Promise<void>
}

/** `advertised`: the port that clients are told, when a proxy stands in front. */
export async function startKafka({ advertised }: { advertised?: number } = {}): Promise<KafkaServer> {
  const reason = missing('kafka')
  if (reason !== null) throw new Error(`the Kafka tests need a broker: ${reason}`)
  const directory = scratch('kafka')
  const [port, controller] = await freePorts(2)
  const properties = join(directory, 'server.properties')
  writeFileSync(properties, settings(directory, port!, controller!, advertised ?? port!))
  const classes = join(jarsOf('kafka'), '*')
  // It begins with a letter: one in 64 would begin with a dash, which the tool takes for an option.
  const id = randomBytes(16)
  id[0]! &= 0x3f
  const clusterId = id.toString('base64url')
  const format = spawnSync('java', ['-XX:+UseSerialGC', '-Xmx128m', '-cp', classes, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties])
  if (format.status !== 0) throw new Error(`kafka storage format: ${format.stderr.toString()}`)

  const start = () => startServer('java', ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx384m', '-cp', classes, 'kafka.Kafka', properties], /Kafka Server started/)
  let server: Server = await start()
  return {
    brokers: [`127.0.0.1:${port}`],
    get pid() { return server.pid },
    folder: join(directory, 'data'),
    directory,
    // Killed, not asked: an orderly end takes seconds, and its data goes anyway.
    async stop() {
      await server.kill()
      rmSync(directory, { recursive: true, force: true })
    },
    kill: () => server.kill(),
    signal: (what) => void process.kill(server.pid, what),
    async restart() {
      await server.kill()
      server = await start()
    },
  }
}

const settings = (directory: string, port: number, controller: number, advertised: number): string => Object.entries({
  'process.roles': 'broker,controller',
  'node.id': 1,
  'controller.quorum.voters': `1@127.0.0.1:${controller}`,
  listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
  'advertised.listeners': `PLAINTEXT://127.0.0.1:${advertised}`,
  'controller.listener.names': 'CONTROLLER',
  'log.dirs': join(directory, 'data'),
  'offsets.topic.replication.factor': 1,
  'offsets.topic.num.partitions': 1,
  'transaction.state.log.replication.factor': 1,
  'transaction.state.log.min.isr': 1,
  'share.coordinator.state.topic.replication.factor': 1,
  'share.coordinator.state.topic.min.isr': 1,
  'group.initial.rebalance.delay.ms': 0,
  'auto.create.topics.enable': false,
  'log.cleaner.dedupe.buffer.size': 8_388_608,
}).map(([key, value]) => `${key}=${value}\n`).join('')
