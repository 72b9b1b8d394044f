import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { z } from 'zod'
import { ConfigError, loadConfig, masked, settingsOf, variableOf, type Sources } from '../../infra/service/config.ts'
import { nearest } from '../../infra/service/nearest.ts'

const schema = z.object({
  level: z.enum(['info', 'warn']).default('info').describe('How loud'),
  door: z.object({
    port: z.int().min(0).default(80).describe('Where'),
    open: z.boolean().default(true).describe('Whether'),
    limits: z.object({ bytesInFlight: z.int().positive().default(1024).describe('How much') }).prefault({}),
  }).prefault({}),
  log: z.object({
    kafka: z.object({
      brokers: z.array(z.string().min(1)).min(1).describe('Where Kafka is'),
      password: z.string().min(3).optional().meta({ secret: true, description: 'Word' }),
    }).optional(),
  }).prefault({}),
})

const folder = mkdtempSync(join(tmpdir(), 'overrun-config-'))
afterAll(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const load = (sources: Partial<Sources>) => loadConfig(schema, { env: {}, otherVariables: ['OVERRUN_URL'], ...sources })
const problems = (sources: Partial<Sources>): readonly string[] => {
  try {
    load(sources)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  throw new Error('nothing was wrong')
}

test('without any source every setting has its default, and optional sections are not there', () => {
  expect(load({}).value).toEqual({ level: 'info', door: { port: 80, open: true, limits: { bytesInFlight: 1024 } }, log: {} })
})

test('the command line is stronger than the environment, that than the file, that than what a command wants', () => {
  const yaml = file('order.yaml', 'door:\n  port: 2\n  open: false\n  limits:\n    bytesInFlight: 2\nlevel: info\n')
  const { value, origins } = load({
    defaults: { level: 'warn', 'door.port': 1 }, file: yaml, env: { OVERRUN_DOOR_PORT: '3', OVERRUN_DOOR_LIMITS_BYTES_IN_FLIGHT: '3' }, options: { 'door.port': '4' },
  })
  expect(value).toMatchObject({ level: 'info', door: { port: 4, open: false, limits: { bytesInFlight: 3 } } })
  expect(Object.fromEntries(origins)).toEqual({
    level: `file ${yaml}`, 'door.port': 'command line', 'door.open': `file ${yaml}`, 'door.limits.bytesInFlight': 'environment OVERRUN_DOOR_LIMITS_BYTES_IN_FLIGHT',
  })
})

test('a file may be JSON', () => {
  expect(load({ file: file('settings.json', '{"door": {"port": 7}}') }).value.door.port).toBe(7)
})

test('the environment has lists, numbers and yes or no; empty is not set', () => {
  const env = { OVERRUN_LOG_KAFKA_BROKERS: ' a:1, b:2,', OVERRUN_DOOR_OPEN: '0', OVERRUN_DOOR_PORT: '', OVERRUN_URL: 'http://elsewhere', HOME: '/' }
  expect(load({ env }).value).toMatchObject({ door: { open: false, port: 80 }, log: { kafka: { brokers: ['a:1', 'b:2'] } } })
})

test('a name that nobody knows is refused with the one that was probably meant', () => {
  expect(problems({ env: { OVERRUN_DOOR_PROT: '1' } })).toEqual(['environment: there is no setting OVERRUN_DOOR_PROT; did you mean OVERRUN_DOOR_PORT?'])
  expect(problems({ options: { 'door.limits.bytesInFlihgt': '1' } })).toEqual(['command line: there is no setting door.limits.bytesInFlihgt; did you mean door.limits.bytesInFlight?'])
  const yaml = file('typo.yaml', 'log:\n  kafak:\n    brokers: [a:1]\n')
  expect(problems({ file: yaml })).toEqual([`${yaml}: there is no setting log.kafak; did you mean log.kafka?`])
  expect(problems({ env: { OVERRUN_ZZZZZZZZZZZZZZZZZZ: '1' } })).toEqual(['environment: there is no setting OVERRUN_ZZZZZZZZZZZZZZZZZZ'])
})

test('names that Kubernetes makes for services are told from misspelt ones', () => {
  expect(problems({ env: { OVERRUN_INGEST_SERVICE_HOST: '10.0.0.1' } })[0]).toContain('enableServiceLinks: false')
})

test('every problem is told at once, with its source and without its value', () => {
  const said = problems({ env: { OVERRUN_DOOR_PORT: 'eighty', OVERRUN_LEVEL: 'loud', OVERRUN_LOG_KAFKA_PASSWORD: 'pw' } })
  expect(said).toHaveLength(4)
  expect(said.join('\n')).toContain('door.port (environment OVERRUN_DOOR_PORT): ')
  expect(said.join('\n')).toContain('log.kafka.brokers is missing (OVERRUN_LOG_KAFKA_BROKERS): Where Kafka is')
  expect(said.join('\n')).toContain('log.kafka.password (environment OVERRUN_LOG_KAFKA_PASSWORD): ')
  expect(said.join('\n')).not.toContain('eighty')
})

test('an empty section is refused: the embedded part must not start where Kafka was meant', () => {
  const yaml = file('empty.yaml', 'log:\n  kafka:\n')
  expect(problems({ file: yaml })).toEqual([`${yaml}: log.kafka should have settings in it, or not be there`])
})

test('a secret may be in a file, and is shown nowhere', () => {
  const env = { OVERRUN_LOG_KAFKA_BROKERS: 'a:1', OVERRUN_LOG_KAFKA_PASSWORD_FILE: file('secret', 'hush!\n') }
  const loaded = load({ env })
  expect(loaded.value.log.kafka?.password).toBe('hush!')
  expect(JSON.stringify(masked(loaded))).not.toContain('hush')
  expect(masked(loaded)).toMatchObject({ log: { kafka: { brokers: ['a:1'], password: '***' } } })
  expect(problems({ env: { ...env, OVERRUN_LOG_KAFKA_PASSWORD: 'other' } })).toEqual(['environment: OVERRUN_LOG_KAFKA_PASSWORD and OVERRUN_LOG_KAFKA_PASSWORD_FILE are both set'])
  expect(problems({ env: { OVERRUN_LOG_KAFKA_BROKERS: 'a:1', OVERRUN_LOG_KAFKA_PASSWORD_FILE: join(folder, 'nowhere') } })[0]).toContain("can't be read")
  expect(problems({ env: { OVERRUN_DOOR_PORT_FILE: file('port', '80') } })[0]).toContain('there is no setting OVERRUN_DOOR_PORT_FILE')
})

test('a file that is no YAML or of another shape is refused with its name', () => {
  expect(problems({ file: join(folder, 'missing.yaml') })[0]).toContain('missing.yaml can\'t be read')
  expect(problems({ file: file('broken.yaml', 'door: [') })[0]).toContain('broken.yaml can\'t be read')
  expect(problems({ file: file('list.yaml', '- 1\n') })).toEqual([`${join(folder, 'list.yaml')}: it should have settings in it, or not be there`])
})

test('whatever a file says, it is taken or refused with reasons', () => {
  const scratch = join(folder, 'any.json')
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    writeFileSync(scratch, JSON.stringify(value))
    try {
      expect(schema.safeParse(load({ file: scratch }).value).success).toBe(true)
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError)
      expect((error as ConfigError).problems.length).toBeGreaterThan(0)
    }
  }), { numRuns: 200 })
})

test('names in the environment are made from paths', () => {
  expect(variableOf('log.kafka.sendTimeoutMs')).toBe('OVERRUN_LOG_KAFKA_SEND_TIMEOUT_MS')
  expect(settingsOf(schema).map(({ path }) => path)).toEqual(['level', 'door.port', 'door.open', 'door.limits.bytesInFlight', 'log.kafka.brokers', 'log.kafka.password'])
})

test('the nearest name is the one with the fewest changes, and none is nearer than half of it', () => {
  expect(nearest('brokres', ['brokers', 'broken', 'blobs'])).toBe('brokers')
  expect(nearest('kafka', ['clickhouse', 'blobs'])).toBeNull()
})
