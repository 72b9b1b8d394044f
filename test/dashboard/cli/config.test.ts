import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { registerConfig, referencePage } from '../../../dashboard/cli/config.ts'
import { configurationSchema, loadConfiguration } from '../../../dashboard/configuration.ts'
import { settingsOf } from '../../../infra/service/config.ts'
import { run } from './command.ts'

beforeEach(() => { for (const name of Object.keys(process.env)) if (name.startsWith('OVERRUN_')) vi.stubEnv(name, undefined) })
afterEach(() => { vi.unstubAllEnvs() })

const settings = settingsOf(configurationSchema)

test('the page of settings is the one that the schemas make', () => {
  expect(readFileSync(join(import.meta.dirname, '../../../infra/configuration.md'), 'utf8')).toBe(referencePage())
})

test('every setting says what it is about, and no two have one name in the environment', () => {
  for (const { path, description } of settings) expect(description, path).not.toBe('')
  const names = settings.flatMap(({ env, secret }) => (secret ? [env, `${env}_FILE`] : [env]))
  expect(names.length).toBeGreaterThan(90)
  expect(new Set(names).size).toBe(names.length)
})

test('what sounds like a secret is marked as one', () => {
  const sounding = settings.filter(({ path }) => /password|secret|token$/i.test(path) && !path.includes('failed'))
  expect(sounding.length).toBeGreaterThan(5)
  expect(sounding.filter(({ secret }) => !secret)).toEqual([])
})

test('config shows each value with its source, secrets masked', async () => {
  vi.stubEnv('OVERRUN_DASHBOARD_TOKEN', 'a-very-secret-token')
  const { code, out } = await run(registerConfig, 'config', '--json', '--set', 'ingest.port=0')
  expect(code).toBe(0)
  expect(out).not.toContain('a-very-secret-token')
  const shown = (JSON.parse(out) as { settings: { path: string }[] }).settings
  expect(shown).toContainEqual({ path: 'dashboard.token', value: '***', origin: 'environment OVERRUN_DASHBOARD_TOKEN' })
  expect(shown).toContainEqual({ path: 'ingest.port', value: 0, origin: 'command line' })
  expect(shown).toContainEqual({ path: 'ingest.host', value: '127.0.0.1', origin: 'default' })
  expect((await run(registerConfig, 'config')).out).toMatch(/^dashboard\.token +"\*\*\*" +environment OVERRUN_DASHBOARD_TOKEN$/m)
})

test('a configuration that is not usable ends with exit code 2 and every problem', async () => {
  vi.stubEnv('OVERRUN_LOG_KAFKA_BROKRES', 'a:1')
  vi.stubEnv('OVERRUN_INGEST_PORT', '70000')
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => { throw new Error('exit') })
  const said = vi.spyOn(console, 'error').mockImplementation(() => {})
  await expect(run(registerConfig, 'config', '--check')).rejects.toThrow('exit')
  expect(exit).toHaveBeenCalledWith(2)
  exit.mockRestore()
  said.mockRestore()
})

test('an address of ClickHouse with a password in it is refused: it would be logged', () => {
  expect(() => loadConfiguration({ env: { OVERRUN_CLICKHOUSE_SERVER_URL: 'http://me:pw@db:8123' } })).toThrow('settings of their own')
})
