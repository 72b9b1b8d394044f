import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { configurationSchema, loadConfiguration } from '../../dashboard/configuration.ts'
import { settingsOf } from '../../infra/service/config.ts'

/** What is given to people who run a large installation: it must be well-formed, hardened, and speak of settings that there are. */
const ROOT = join(import.meta.dirname, '../..')
const INFRA = join(ROOT, 'infra')
const scratch = mkdtempSync(join(tmpdir(), 'overrun-deployment-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const settings = settingsOf(configurationSchema)
const variables = new Set(settings.flatMap(({ env, secret }) => (secret ? [env, `${env}_FILE`] : [env])))
const secrets = new Set(settings.filter(({ secret }) => secret).map(({ env }) => env))
const isPinned = (image: string): boolean => /:v?\d+\.\d+(\.\d+)*[\w.-]*$|@sha256:[0-9a-f]{64}$/.test(image)
const has = (command: string): boolean => spawnSync(command, ['version']).error === undefined

describe('compose.yaml', () => {
  interface Service {
    image: string; user?: string; read_only?: boolean; cap_drop?: string[]; cap_add?: string[]; security_opt?: string[]; environment?: Record<string, string>
    healthcheck?: { test?: string[]; disable?: boolean }; secrets?: string[]; ports?: string[]; command?: string[]; network_mode?: string; volumes?: string[]
  }
  const text = readFileSync(join(INFRA, 'compose.yaml'), 'utf8')
  const compose = parse(text, { merge: true }) as { services: Record<string, Service>; secrets: Record<string, { file: string }>; volumes: Record<string, unknown> }
  const services = Object.entries(compose.services)
  const ours = services.filter(([name]) => ['ingest', 'symbolicate', 'dashboard', 'migrate'].includes(name))

  test('it has the real parts and our services', () => {
    expect(services.map(([name]) => name).toSorted()).toEqual(['clickhouse', 'dashboard', 'garage', 'ingest', 'kafka', 'migrate', 'symbolicate', 'volumes'])
    expect(ours).toHaveLength(4)
  })

  test('every image is pinned, every file system read-only, every capability dropped, and only the one that hands over volumes is root', () => {
    for (const [name, { image, user, read_only, cap_drop, cap_add = [], network_mode }] of services) {
      expect(isPinned(image.replace(/\$\{\w+:-([^}]+)\}/, '$1')), image).toBe(true)
      expect(read_only, name).toBe(true)
      expect(cap_drop, name).toEqual(['ALL'])
      if (name === 'volumes') expect([cap_add, network_mode]).toEqual([['CHOWN'], 'none'])
      else expect([cap_add, Number(user?.split(':')[0]) > 0], name).toEqual([[], true])
    }
  })

  test('every service that stays has a healthcheck, and devices and people are let in on this machine only unless told otherwise', () => {
    for (const name of ['kafka', 'clickhouse', 'garage']) expect(compose.services[name]?.healthcheck?.test, name).toBeTruthy()
    expect(readFileSync(join(INFRA, 'Dockerfile'), 'utf8')).toContain('HEALTHCHECK')
    expect(services.flatMap(([, { ports = [] }]) => ports)).toEqual(['${OVERRUN_DEVICES:-127.0.0.1:4680}:4680', '${OVERRUN_PEOPLE:-127.0.0.1:4681}:4681'])
  })

  test('what it sets are settings, and secrets come from files', () => {
    for (const [name, { environment = {} }] of ours) {
      const names = Object.keys(environment)
      expect(names.filter((variable) => !variables.has(variable)), name).toEqual([])
      expect(names.filter((variable) => secrets.has(variable)), name).toEqual([])
      const env = Object.fromEntries(Object.entries(environment).map(([variable, value]) => [variable, variable.endsWith('_FILE') ? join(INFRA, '../package.json') : value]))
      expect(loadConfiguration({ env }).value.log.kafka?.brokers).toEqual(['kafka:9092'])
    }
  })

  test('the script makes each secret once, in a folder that only its owner enters', () => {
    const folder = join(scratch, 'secrets')
    const make = () => spawnSync('sh', [join(INFRA, 'compose/secrets.sh'), folder], { encoding: 'utf8' })
    expect(make()).toMatchObject({ status: 0, stderr: '' })
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    const names = Object.values(compose.secrets).map(({ file }) => file.split('/').at(-1) as string)
    const before = names.map((name) => readFileSync(join(folder, name), 'utf8'))
    expect(before.every((secret) => /^[0-9a-f]{48,64}\n$/.test(secret))).toBe(true)
    make()
    expect(names.map((name) => readFileSync(join(folder, name), 'utf8'))).toEqual(before)
    expect(readFileSync(join(folder, 'garage.env'), 'utf8')).toBe(`GARAGE_DEFAULT_SECRET_KEY=${readFileSync(join(folder, 's3_secret'), 'utf8')}`)
  })

  const absent = !has('docker-compose')
  test.skipIf(absent && process.env.CI !== 'true')(`docker-compose takes it${absent ? ' (no docker-compose)' : ''}`, () => {
    const folder = join(scratch, 'compose-secrets')
    spawnSync('sh', [join(INFRA, 'compose/secrets.sh'), folder])
    const result = spawnSync('docker-compose', ['-f', join(INFRA, 'compose.yaml'), 'config', '--quiet'], { encoding: 'utf8', env: { ...process.env, OVERRUN_SECRETS: folder } })
    expect({ status: result.status, stderr: result.stderr }).toEqual({ status: 0, stderr: '' })
  })
})

describe('Dockerfile', () => {
  const text = readFileSync(join(INFRA, 'Dockerfile'), 'utf8')
  const last = text.slice(text.lastIndexOf('\nFROM '))

  test('what it copies is there, and the last stage is an ordinary user without tools that build', () => {
    const sources = Array.from(text.matchAll(/^COPY (?!--from)(.+) \S+$/gm), ([, names = '']) => names.split(' ')).flat()
    expect(sources.length).toBeGreaterThan(8)
    for (const source of sources) expect(existsSync(join(ROOT, source)), source).toBe(true)
    expect(last).toMatch(/^USER 10001:10001$/m)
    expect(last).not.toMatch(/apt-get|npm ci|\bCOPY \. /)
    expect(isPinned(/^ARG NODE=(\S+)$/m.exec(text)?.[1]?.replace(/-bookworm-slim$/, '') ?? '')).toBe(true)
  })

  test('it runs the Node that the packages were tested with', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'node_modules/node/package.json'), 'utf8')) as { version: string }
    expect(text).toContain(`ARG NODE=node:${version}-`)
  })
})

describe('the Helm chart', () => {
  const chart = join(INFRA, 'helm/overrun')
  const values = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as { config: object; secretKeys: Record<string, string[]>; image: { tag: string } }
  const { appVersion } = parse(readFileSync(join(chart, 'Chart.yaml'), 'utf8')) as { appVersion: string }

  test('its configuration is one that a process takes, and holds no secret', () => {
    const file = join(scratch, 'overrun.yaml')
    writeFileSync(file, stringify(values.config))
    const { value, origins } = loadConfiguration({ file, env: {} })
    expect(value.log.kafka?.allowSingleBroker).toBe(false)
    expect(settings.filter(({ path, secret }) => secret && origins.has(path))).toEqual([])
    expect(Object.values(values.secretKeys).flat().filter((name) => !secrets.has(name))).toEqual([])
  })

  test('it runs the version that this is', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
    expect(appVersion).toBe(version)
    expect(readFileSync(join(INFRA, 'compose.yaml'), 'utf8')).toContain(`overrun:\${OVERRUN_VERSION:-${version}}`)
  })

  // Helm is built from source in minutes (`sh infra/setup.sh helm`, with Go), so it is no part of every run.
  const helm = join(ROOT, '.cache/bin/helm')
  const absent = !existsSync(helm)
  test.skipIf(absent && process.env.OVERRUN_LONG !== '1')(`helm lints and renders it${absent ? ' (no helm)' : ''}`, () => {
    const lint = spawnSync(helm, ['lint', '--strict', '--kube-version', '1.30.0', chart], { encoding: 'utf8' })
    expect(lint.stdout + lint.stderr).toContain('0 chart(s) failed')
    const rendered = spawnSync(helm, ['template', 'crashes', chart, '--kube-version', '1.30.0', '--set', 'symbolicate.autoscaling.lag=2000'], { encoding: 'utf8' })
    expect(rendered.stderr).toBe('')
    const objects = rendered.stdout.split(/^---$/m).map((part) => parse(part) as { kind: string; metadata: { name: string }; spec: { template?: { spec: Pod } } } | null).filter((object) => object !== null)
    const kinds = objects.map(({ kind, metadata }) => `${kind} ${metadata.name.replace('crashes', '').replace('-', '')}`.trim())
    for (const kind of ['StatefulSet ingest', 'Deployment symbolicate', 'Deployment dashboard', 'Job migrate', 'ConfigMap', 'HorizontalPodAutoscaler symbolicate', 'PodDisruptionBudget ingest', 'NetworkPolicy ingest', 'NetworkPolicy migrate']) {
      expect(kinds).toContain(kind)
    }
    for (const { kind, metadata, spec } of objects) {
      if (spec?.template === undefined) continue
      const pod = spec.template.spec
      expect(pod, `${kind} ${metadata.name}`).toMatchObject({ enableServiceLinks: false, automountServiceAccountToken: false, securityContext: { runAsNonRoot: true, runAsUser: 10001 } })
      for (const { securityContext, env, volumeMounts } of pod.containers) {
        expect(securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } })
        expect(env.filter(({ name }) => name !== 'OVERRUN_CONFIG' && !variables.has(name))).toEqual([])
        expect(volumeMounts.map(({ name }) => name).filter((name) => !pod.volumes.some((volume) => volume.name === name) && name !== 'data')).toEqual([])
      }
    }
  })
  interface Pod { containers: { securityContext: object; env: { name: string }[]; volumeMounts: { name: string }[] }[]; volumes: { name: string }[] }
})
