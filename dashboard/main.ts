import { randomBytes } from 'node:crypto'
import { keptSecret } from '../infra/service/kept-secret.ts'
import { createStopper } from '../infra/service/stop.ts'
import type { ArchiveSettings } from '../symbolicate/config.ts'
import { createChannels, type Channel } from './alert/channels.ts'
import type { Configuration } from './configuration.ts'
import { createDetectors, type Detectors } from './detect/detectors.ts'
import { createDashboard, type DashboardDeps } from './server.ts'

/**
 * The listener of people, the detectors and those who are told, wired. Of its own it has DATA/token and DATA/webhook-secret,
 * when no setting says them.
 *
 * Detectors run in every process that has `detectors` on. One is enough; two do no harm but work: an alert has the same
 * id, version and message id whoever finds it, its row replaces itself, and a receiver that keeps message ids hears it once.
 */
export interface RunningDashboard { url: string; token: string; detectors: Detectors; stop(): Promise<void> }

export async function startDashboard({ settings, data, watch, onRegistryChange, onSymbols, ...world }: Omit<DashboardDeps, 'settings' | 'archive'> & {
  settings: Configuration['dashboard']
  data: string
  /** Let the detectors look every few seconds. A story that moves the clock asks them itself. */
  watch: boolean
  archive: ArchiveSettings
}): Promise<RunningDashboard> {
  const { logger } = world
  const stopper = createStopper((part, reason) => logger.error({ part, reason }, 'did not stop cleanly'))
  const token = settings.token ?? keptSecret(data, 'token', () => randomBytes(24).toString('base64url'))
  try {
    const dashboard = createDashboard({
      ...world, settings: { ...settings, token }, ...(onRegistryChange ? { onRegistryChange } : {}), ...(onSymbols ? { onSymbols } : {}),
    })
    stopper.add('dashboard', () => dashboard.stop())
    const { url } = await dashboard.start()
    const channels = createChannels({ ...world, settings: { channels: settings.detectors ? channelsOf(settings, data) : [], pageUrl: url } })
    stopper.add('channels', () => channels.stop())
    await channels.resume()
    const detectors = createDetectors({ ...world, notify: channels.notify })
    stopper.add('detectors', () => detectors.stop())
    if (watch && settings.detectors) detectors.start()
    return { url, token, detectors, stop: () => stopper.stop() }
  } catch (error) {
    await stopper.stop()
    throw error
  }
}

function channelsOf({ webhook }: Configuration['dashboard'], data: string): Channel[] {
  if (webhook === undefined) return []
  const secret = webhook.secret ?? keptSecret(data, 'webhook-secret', () => `whsec_${randomBytes(32).toString('base64')}`)
  return [{ name: 'webhook', url: webhook.url, secrets: [secret], allowPrivate: webhook.inside }]
}
