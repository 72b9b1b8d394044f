import type { Command } from 'commander'
import { systemClock } from '../../infra/service/clock.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { runProcess } from '../../infra/service/process.ts'
import { DEFAULT_DATA } from '../../infra/service/server-file.ts'
import { addProcessOptions, configOf, configurationOf, portNumber, type ProcessOptions } from './options.ts'
import { startPipeline, type Pipeline } from './pipeline.ts'

interface StartOptions extends ProcessOptions { ingestPort?: number; dashboardPort?: number; webhook?: string; webhookSecret?: string; webhookInside?: boolean }

/** `overrun start`: everything in one process, until it is told to stop. What was acknowledged survives any end. */
export function registerStart(program: Command): void {
  addProcessOptions(program.command('start'))
    .description('Run ingest, worker, detectors and dashboard in one process; data stays in a folder')
    .option('--ingest-port <port>', 'for devices; 0 is any free one', portNumber)
    .option('--dashboard-port <port>', 'for people; 0 is any free one', portNumber)
    .option('--webhook <url>', 'tell this address of alerts (Standard Webhooks)')
    .option('--webhook-secret <secret>', 'whsec_ and base64; made and kept in DATA/webhook-secret when left out')
    .option('--webhook-inside', 'the address may be a private one')
    .action(async (options: StartOptions) => {
      const loaded = configurationOf('start', options, {
        // A terminal shows the welcome, not every line.
        defaults: { logLevel: 'warn' },
        options: {
          'ingest.port': options.ingestPort, 'dashboard.port': options.dashboardPort, 'dashboard.webhook.url': options.webhook,
          'dashboard.webhook.secret': options.webhookSecret, 'dashboard.webhook.inside': options.webhookInside,
        },
      })
      const configuration = loaded.value
      const { data, ingest: { port: ingestPort }, dashboard: { port: dashboardPort } } = configuration
      await runProcess({
        part: 'start', config: configOf(loaded), json: options.json === true, explain: (error) => explainStart(error, { data, ingestPort, dashboardPort }),
        async start(world) {
          const pipeline = await startPipeline({ configuration, clock: systemClock, watch: true, world })
          const { ingestUrl: ingest_url, dashboardUrl: dashboard_url, token, checks } = pipeline
          return { checks, addresses: { ingest_url, dashboard_url }, printed: { token }, welcome: welcome(pipeline, data) }
        },
      })
    })
}

/** The two things that go wrong at a start are a port and a folder that somebody else has. */
export function explainStart(error: unknown, { data, ingestPort, dashboardPort }: { data: string; ingestPort: number; dashboardPort: number }): string {
  const message = messageOf(error)
  const { code } = error as { code?: string }
  if (code === 'EADDRINUSE') return `${message}. Is it running already? Other ports: --ingest-port and --dashboard-port (now ${ingestPort} and ${dashboardPort}; 0 is any free one).`
  if (code === 'log-in-use' || code === 'clickhouse-directory-in-use') return `${message}. Stop the other one, or give this one a folder of its own with --data (now ${data}).`
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
