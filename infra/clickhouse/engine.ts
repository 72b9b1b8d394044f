import { setPriority } from 'node:os'
import { messageOf } from '../service/errors.ts'
import { openLanes } from './engine-lanes.ts'
import { createEngineServer } from './engine-http.ts'

/**
 * The embedded engine's process: chdb behind ClickHouse's HTTP interface on loopback. Only embedded.ts starts it.
 *
 * States: it waits for `start`; answers `ready` with its port, or `failed`; serves; at `stop` it takes nothing new,
 * finishes what runs and ends. It ends at once when its parent is gone, killed or not: the pipe between them closes.
 * It ends by SIGKILL, because process.exit waits for statements that can't be interrupted.
 */
export type ToEngine =
  | { kind: 'start'; directory: string; port: number; password: string; memoryLimitBytes: number }
  | { kind: 'stop' }
export type FromEngine = { kind: 'ready'; port: number } | { kind: 'failed'; message: string }

const READERS = 4
/** Below the process that answers devices: a page may wait, a report that isn't acknowledged is sent again. Threads inherit it. */
const NICE = 5
const CONFIG = new URL('./engine.xml', import.meta.url)

setPriority(NICE)

const die = (): void => void process.kill(process.pid, 'SIGKILL')
let stop: () => Promise<void> = async () => {}

process.on('disconnect', die)
process.on('message', (message: ToEngine) => {
  if (message.kind === 'start') start(message).catch(failed)
  else void stop().then(die, die)
})
// Ctrl-C reaches the whole group of a terminal; the parent decides when the engine ends.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})

async function start({ directory, port, password, memoryLimitBytes }: Extract<ToEngine, { kind: 'start' }>): Promise<void> {
  const lanes = openLanes({ directory, config: CONFIG.pathname, readers: READERS, memoryLimitBytes })
  const server = createEngineServer({ lanes, password })
  server.keepAliveTimeout = 10_000
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  stop = async () => {
    server.close()
    await lanes.close()
  }
  const bound = server.address()
  tell({ kind: 'ready', port: typeof bound === 'object' && bound !== null ? bound.port : port })
}

function failed(error: unknown): void {
  tell({ kind: 'failed', message: messageOf(error) }, die)
}

function tell(message: FromEngine, then: () => void = () => {}): void {
  if (process.send) process.send(message, undefined, undefined, then)
  else die()
}
