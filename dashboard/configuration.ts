import { z } from 'zod'
import { blobSettingsSchema } from '../infra/blobs/config.ts'
import { clickhouseSettingsSchema } from '../infra/clickhouse/config.ts'
import { logSettingsSchema } from '../infra/log/config.ts'
import { loadConfig, type Loaded } from '../infra/service/config.ts'
import { opsSettingsSchema } from '../infra/service/ops.ts'
import { DEFAULT_DATA } from '../infra/service/server-file.ts'
import { ingestSettingsSchema } from '../ingest/config.ts'
import { workerSettingsSchema } from '../symbolicate/config.ts'
import { dashboardSettingsSchema } from './config.ts'

/**
 * The whole configuration, of all processes: one file does for a whole installation, and each process takes what it
 * needs. Each part's own schema stands beside the part.
 */
export const configurationSchema = z.object({
  data: z.string().min(1).default(DEFAULT_DATA).describe('Folder of this process: everything of the embedded parts; else what may be lost, but the token'),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Least severe lines that are written; `overrun start` alone begins at warn'),
  ops: opsSettingsSchema.prefault({}),
  log: logSettingsSchema.prefault({}),
  blobs: blobSettingsSchema.prefault({}),
  clickhouse: clickhouseSettingsSchema.prefault({}),
  ingest: ingestSettingsSchema.prefault({}),
  symbolicate: workerSettingsSchema.prefault({}),
  dashboard: dashboardSettingsSchema.partial({ token: true }).prefault({}),
})

export type Configuration = z.infer<typeof configurationSchema>

/** Variables of the commands that talk to a running server. */
const OTHER_VARIABLES = ['OVERRUN_CONFIG', 'OVERRUN_URL', 'OVERRUN_TOKEN', 'OVERRUN_INGEST_URL']

export interface ConfigurationSources {
  /** A YAML or JSON file; else the one that OVERRUN_CONFIG names. */
  file?: string | undefined
  defaults?: Readonly<Record<string, unknown>>
  options?: Readonly<Record<string, unknown>>
  env?: Readonly<Record<string, string | undefined>>
}

/** Throws ConfigError with every problem at once. */
export function loadConfiguration({ file, env = process.env, ...sources }: ConfigurationSources = {}): Loaded<Configuration> {
  return loadConfig(configurationSchema, { ...sources, file: file ?? (env.OVERRUN_CONFIG || undefined), env, otherVariables: OTHER_VARIABLES })
}
