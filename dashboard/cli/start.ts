import { randomBytes } from 'node:crypto'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { systemClock } from '../../infra/service/clock.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { stopOnSignal } from '../../infra/service/stop.ts'
import type { Channel } from '../alert/channels.ts'
import { keptSecret, startPipeline, type Pipeline } from './pipeline.ts'
import { DEFAULT_DATA } from '../../infra/service/server-file.ts'

export const DEFAULT_INGEST_PORT = 4680
export const DEFAULT_DASHBOARD_PORT = 4681

interface StartOptions { data: string; ingestPort: number; dashboardPort: number; logLevel: string; webhook?: string; webhookSecret?: string; webhookInside?: boolean; json?: boolean }

/** `overrun start`: everything in one process, until it is told to stop. What was acknowledged survives any end. */
export function registerStart(program: Command): void {
  program
    .command('start')
    .description('Run ingest, worker, detectors and dashboard in one process; data stays in a folder')
    .option('--data <directory>', 'where everything is kept', DEFAULT_DATA)
    .option('--ingest-port <port>', 'for devices; 0 is any free one', portNumber, DEFAULT_INGEST_PORT)
    .option('--dashboard-port <port>', 'for people; 0 is any free one', portNumber, DEFAULT_DASHBOARD_PORT)
    .option('--log-level <level>', 'debug, info, warn or error; lines of JSON on standard error', 'warn')
    .option('--webhook <url>', 'tell this address of alerts (Standard Webhooks)')
    .addOption(new Option('--webhook-secret <secret>', 'whsec_ and base64; made and kept in DATA/webhook-secret when left out').env('OVERRUN_WEBHOOK_SECRET'))
    .option('--webhook-inside', 'the address may be a private one')
    .option('--json', 'print one line of JSON with both addresses and the token when ready')
    .action(async (options: StartOptions) => {
      const logger = createLogger({ part: 'overrun', level: options.logLevel })
      let pipeline: Pipeline
      try {
        pipeline = await startPipeline({ ...options, clock: systemClock, logger, watch: true, webhooks: webhooksOf(options) })
      } catch (error) {
        console.error(`overrun start: ${explainStart(error, options)}`)
        process.exit(1)
      }
      stopOnSignal(() => pipeline.stop())
      const { ingestUrl, dashboardUrl, token } = pipeline
      if (options.json) console.log(JSON.stringify({ ingest_url: ingestUrl, dashboard_url: dashboardUrl, token }))
      else console.log(welcome(pipeline, options.data))
    })
}

function webhooksOf({ data, webhook: url, webhookSecret, webhookInside = false }: StartOptions): Channel[] {
  if (url === undefined) return []
  const secret = webhookSecret ?? keptSecret(data, 'webhook-secret', () => `whsec_${randomBytes(32).toString('base64')}`)
  return [{ name: 'webhook', url, secrets: [secret], allowPrivate: webhookInside }]
}

export function portNumber(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new InvalidArgumentError('a port from 0 to 65535 is expected')
  return port
}

/** The two things that go wrong at a start are a port and a folder that somebody else has. */
export function explainStart(error: unknown, { data, ingestPort, dashboardPort }: { data: string; ingestPort: number; dashboardPort: number }): string {
  const message = messageOf(error)
  const { code } = error as { code?: string }
  if (code === 'EADDRINUSE') return `${message}. Is it running already? Other ports: --ingest-port and --dashboard-port (now ${ingestPort} and ${dashboardPort}; 0 is any free one).`
  if (code === 'log-in-use') return `${message}. Stop the other one, or give this one a folder of its own with --data (now ${data}).`
  return message
}

function welcome({ ingestUrl, dashboardUrl, token }: Pipeline, data: string): string {
  const at = data === DEFAULT_DATA ? '' : ` --data ${data}`
  return `
  Dashboard   ${dashboardUrl}   token ${token}
  Devices     ${ingestUrl}/v1/crashes
  Data        ${data}

  Send the first crash (a demo CA and devices; your own CA goes the same way):

    npm run overrun -- fleet init my-fleet
    npm run overrun -- fleet add-anchor my-fleet/ca.pem${at}
    npm run overrun -- send test/corpus/crashpad-x64/sensord.null-read.dmp --device my-fleet/devices/demo-0001${at}

  Stop with Ctrl-C; nothing that was acknowledged is lost.
`
}
