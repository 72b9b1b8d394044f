import { BrokenWorld, messageOf } from './errors.ts'
import { createLogger, type Logger } from './logger.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { createOps, type Checks, type OpsSettings } from './ops.ts'
import { patiently } from './patiently.ts'
import { startTracing, type Tracing } from './tracing.ts'
import { createStopper, stopOnSignal, type Stopper } from './stop.ts'

/**
 * One process from its first line to its last, the same for every part:
 *
 *   its configuration is logged with secrets masked; the listener of operators answers, not ready yet
 *   its parts start, waiting for what is not there yet
 *   ready: with `json` one line of JSON with its addresses on standard output
 *   SIGTERM: not ready any more, parts stop in the reverse order of their start within ten seconds, end
 */
export interface World {
  logger: Logger
  metrics: Metrics
  tracing: Tracing
  stopper: Stopper
  /** Opens what the process can't begin without, as often as it takes. */
  patiently<T>(what: string, open: () => Promise<T>): Promise<T>
}

export interface Running {
  /** What the work needs: while one fails, the process is not ready. */
  checks: Checks
  /** What is shown beside them and decides nothing. */
  hints?: Checks
  /** Logged, and printed when ready. */
  addresses: Readonly<Record<string, string>>
  /** Printed with `json` beside them, never logged: a token, for example. */
  printed?: Readonly<Record<string, unknown>>
  /** What a person is told instead. */
  welcome?: string
}

export async function runProcess({ part, config, json, start, explain = messageOf }: {
  part: string
  config: { value: { logLevel: string; ops: OpsSettings }; masked: unknown }
  json: boolean
  start(world: World): Promise<Running>
  /** Says what a failed start means. */
  explain?: (error: unknown) => string
}): Promise<{ stop(): Promise<void> }> {
  const logger = createLogger({ part, level: config.value.logLevel })
  const metrics = createMetrics({ defaults: true })
  const stopping = new AbortController()
  const stopper = createStopper((name, reason) => logger.error({ stage: 'stop', part: name, reason }, 'did not stop cleanly'))
  let running: Running | null = null
  let waiting: string | null = 'starting'
  const notYet = async () => { throw new Error(stopping.signal.aborted ? 'stopping' : waiting ?? 'starting') }
  const checks = (): Checks => (running === null || stopping.signal.aborted ? { start: notYet } : running.checks)

  logger.info({ stage: 'start', pid: process.pid, configuration: config.masked }, 'configuration')
  stopOnSignal(stop)
  try {
    const ops = createOps({ settings: config.value.ops, metrics, checks, hints: () => running?.hints ?? {} })
    const { url } = await ops.start()
    stopper.add('ops', () => ops.stop())
    const tracing = await startTracing({ part, logger })
    stopper.add('tracing', () => tracing.stop())
    running = await start({ logger, metrics, tracing, stopper, patiently: (what, open) => patiently(what, open, { logger, stopping: stopping.signal, waiting: (reason) => { waiting = reason } }) })
    const addresses = { ...running.addresses, ops_url: url }
    logger.info({ stage: 'start', ...addresses }, 'ready')
    if (json) console.log(JSON.stringify({ ...addresses, ...running.printed, pid: process.pid }))
    else console.log(running.welcome ?? Object.entries(addresses).map(([name, address]) => `${name.replace('_url', '')}  ${address}`).join('\n'))
  } catch (error) {
    if (stopping.signal.aborted) return { stop }
    logger.error({ stage: 'start', ...(error instanceof BrokenWorld ? { slug: error.code } : {}), reason: messageOf(error) }, 'did not start')
    console.error(`overrun ${part}: ${explain(error)}`)
    await stopper.stop()
    process.exit(1)
  }
  return { stop }

  async function stop(): Promise<void> {
    logger.info({ stage: 'stop' }, 'stopping')
    stopping.abort()
    await stopper.stop()
    logger.info({ stage: 'stop' }, 'stopped')
  }
}
