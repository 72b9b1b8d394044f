import type { Command } from 'commander'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { migrate, pendingMigrations } from '../../infra/clickhouse/migrate.ts'
import { openClickHouse } from '../../infra/clickhouse/open.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { addProcessOptions, configurationOf, type ProcessOptions } from './options.ts'

/**
 * `overrun migrate`: makes the database and applies the migrations that it lacks, forward only; safe to run again, also
 * after a kill. One at a time: run it as one job before a rollout. `--check` changes nothing.
 * Exit codes: 0 nothing is missing now, 1 ClickHouse refused, 2 usage, 3 (--check) migrations are missing.
 */
export function registerMigrate(program: Command): void {
  addProcessOptions(program.command('migrate'))
    .description('Bring the schema of ClickHouse up to this build')
    .option('--check', 'only say what is missing; exit code 3 when something is')
    .action(async (options: ProcessOptions & { check?: boolean }) => {
      const { clickhouse: settings, data, logLevel } = configurationOf('migrate', options).value
      const say = (list: string[], done: string) => console.log(options.json ? JSON.stringify({ [done]: list }) : `${done}: ${list.length === 0 ? 'nothing' : list.join(', ')}`)
      try {
        if (settings.server && !options.check) await makeDatabase(settings.server)
        const { clickhouse, close } = await openClickHouse({ settings, data, application: 'overrun-migrate', logger: createLogger({ part: 'migrate', level: logLevel }) })
        try {
          if (options.check) {
            const pending = await pendingMigrations(clickhouse)
            say(pending, 'missing')
            process.exitCode = pending.length === 0 ? 0 : 3
          } else {
            say((await migrate(clickhouse, { now: systemClock.now(), retentionDays: settings.retentionDays })).applied, 'applied')
          }
        } finally {
          await close()
        }
      } catch (error) {
        console.error(`overrun migrate: ${messageOf(error)}`)
        process.exitCode = 1
      }
    })
}

/** The name is checked by the settings: it can be written into the statement. */
async function makeDatabase(server: Parameters<typeof connectClickHouse>[0]): Promise<void> {
  const clickhouse = connectClickHouse({ ...server, database: 'default' }, 'overrun-migrate')
  try {
    if (server.database !== 'default') await clickhouse.command({ query: `CREATE DATABASE IF NOT EXISTS ${server.database}` })
  } finally {
    await clickhouse.close()
  }
}
