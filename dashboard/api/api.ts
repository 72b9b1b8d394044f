import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { z } from 'zod'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Log } from '../../infra/log/log.ts'
import type { Clock } from '../../infra/service/clock.ts'
import type { Logger } from '../../infra/service/logger.ts'
import type { ArchiveSettings } from '../../symbolicate/config.ts'
import type { SymbolStore } from '../../symbolicate/symbols/store.ts'
import type { DashboardSettings } from '../config.ts'
import type { EventLog } from '../queries/event-log.ts'
import type { Scope } from '../queries/scope.ts'
import type { rangeQuerySchema } from './requests.ts'

/** What the routes are made of. */
export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, ZodTypeProvider>

export interface ApiDeps {
  settings: DashboardSettings
  clickhouse: ClickHouse
  blobs: Blobs
  symbols: Pick<SymbolStore, 'put'>
  events: EventLog
  clock: Clock
  logger: Logger
  /** Told after an event that ingest's registry reads; resolves when whoever was told has read it, and never rejects. */
  onRegistryChange: () => Promise<void>
  /** Told after the event of symbols that have arrived. */
  onSymbols: () => void
  onUpload: (result: 'stored' | 'already' | 'refused') => void
  /** Opened when somebody first asks for what needs it; absent where this dashboard has none. */
  openLog: (() => Promise<Pick<Log, 'append' | 'stats'>>) | undefined
  /** How long dumps and manifests are kept. */
  archive: ArchiveSettings
}

/** There is one token, so there is one person. */
export const ACTOR = 'admin'

export const DAY = 86_400_000
const HOUR = 3_600_000
const DEFAULT_RANGE = 14 * DAY

export const fleetOf = ({ settings }: ApiDeps, asked: string | undefined): string => asked ?? settings.fleet

/** The asked range, or the last 14 days of the story's clock, in whole hours: this hour included, which sets of hours count to its end. */
export function scopeOf(deps: ApiDeps, asked: z.infer<typeof rangeQuerySchema>): Scope {
  const to = asked.to === undefined ? Math.floor(deps.clock.now() / HOUR + 1) * HOUR : Date.parse(asked.to)
  const from = asked.from === undefined ? to - DEFAULT_RANGE : Date.parse(asked.from)
  return { fleet: fleetOf(deps, asked.fleet), from: Math.max(0, Math.min(from, to)), to }
}
