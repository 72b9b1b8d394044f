import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'
import { messageOf } from './errors.ts'
import { nearest } from './nearest.ts'

/**
 * Settings from several places into one checked value. Later ones win:
 *
 *   the schema's defaults  <  a file (YAML or JSON)  <  the environment  <  the command line
 *
 * The name in the environment is made from the path: log.kafka.sendTimeoutMs is OVERRUN_LOG_KAFKA_SEND_TIMEOUT_MS.
 * Lists are separated by commas there; empty is the same as not set. A secret may also be in a file that
 * OVERRUN_..._FILE names. A name that nobody knows is an error that says which one was probably meant: a misspelt limit
 * that is silently ignored is found in the outage that it was to prevent.
 */
export interface Setting {
  path: string
  env: string
  type: 'string' | 'number' | 'boolean' | 'list'
  /** Undefined: none, or its section has to be there first. */
  default: unknown
  /** Words that may stand there, when they are few. */
  words: readonly string[]
  description: string
  secret: boolean
}

/** Where a value comes from, in words. */
export type Origins = ReadonlyMap<string, string>
export interface Loaded<T> { value: T; origins: Origins; settings: readonly Setting[] }

export class ConfigError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

export interface Sources {
  /** Weaker than a file: what a command wants other than the schema. */
  defaults?: Readonly<Record<string, unknown>>
  file?: string | undefined
  env: Readonly<Record<string, string | undefined>>
  /** Names with our prefix that are no settings. */
  otherVariables: readonly string[]
  /** By path; text is read like the environment's. */
  options?: Readonly<Record<string, unknown>>
}

export const PREFIX = 'OVERRUN_'

export function loadConfig<S extends z.ZodType>(schema: S, sources: Sources): Loaded<z.infer<S>> {
  const settings = settingsOf(schema)
  const problems: string[] = []
  const values: Values = new Map()
  for (const [path, value] of Object.entries(sources.defaults ?? {})) values.set(path, { value, origin: 'default' })
  if (sources.file !== undefined) readFile(sources.file, settings, values, problems)
  readEnvironment(sources, settings, values, problems)
  readOptions(sources.options ?? {}, settings, values, problems)

  const parsed = schema.safeParse(nested(values))
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => sayIssue(issue, settings, values)))
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems)
  return { value: parsed.data, settings, origins: new Map([...values].map(([path, { origin }]) => [path, origin])) }
}

type Values = Map<string, { value: unknown; origin: string }>
type Property = {
  type?: string; description?: string; default?: unknown; secret?: boolean; enum?: string[]
  properties?: Record<string, Property>; items?: Property
}

/** The leaves of a schema in its own order; made from its JSON Schema, so there is nothing beside it to keep in step. */
export function settingsOf(schema: z.ZodType): Setting[] {
  return leavesOf(z.toJSONSchema(schema, { io: 'input' }) as Property, '')
}

function leavesOf({ properties = {} }: Property, prefix: string): Setting[] {
  return Object.entries(properties).flatMap(([name, property]) => {
    const path = `${prefix}${name}`
    if (property.properties) return leavesOf(property, `${path}.`)
    const { description = '', secret = false, enum: words = [] } = property
    return [{ path, env: variableOf(path), type: typeOf(property), default: property.default, words, description, secret }]
  })
}

function typeOf({ type, items }: Property): Setting['type'] {
  if (type === 'integer' || type === 'number') return 'number'
  if (type === 'boolean' || type === 'string') return type
  if (type === 'array' && items?.properties === undefined && items?.type !== 'array') return 'list'
  throw new Error(`a setting of type ${type} has no form in the environment`)
}

export const variableOf = (path: string): string => PREFIX + path.replaceAll('.', '_').replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()

function readFile(file: string, settings: readonly Setting[], values: Values, problems: string[]): void {
  let content: unknown
  try {
    content = parse(readFileSync(file, 'utf8'), { maxAliasCount: 0 })
  } catch (error) {
    problems.push(`${file} can't be read: ${messageOf(error)}`)
    return
  }
  const sections = new Set(settings.flatMap(({ path }) => {
    const names = path.split('.')
    return names.slice(1).map((_, index) => names.slice(0, index + 1).join('.'))
  }))
  const byPath = new Map(settings.map((setting) => [setting.path, setting]))
  walk(content ?? {}, '')

  function walk(value: unknown, path: string): void {
    if (byPath.has(path)) {
      if (value !== null) values.set(path, { value, origin: `file ${file}` })
    } else if (path !== '' && !sections.has(path)) {
      problems.push(`${file}: there is no setting ${path}${suggest(path, [...byPath.keys(), ...sections])}`)
    } else if (isRecord(value) && (path === '' || Object.keys(value).length > 0)) {
      for (const [name, inner] of Object.entries(value)) walk(inner, path === '' ? name : `${path}.${name}`)
    } else {
      problems.push(`${file}: ${path === '' ? 'it' : path} should have settings in it, or not be there`)
    }
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

function readEnvironment({ env, otherVariables }: Sources, settings: readonly Setting[], values: Values, problems: string[]): void {
  const names = new Map<string, { setting: Setting; fromFile: boolean }>()
  for (const setting of settings) {
    names.set(setting.env, { setting, fromFile: false })
    if (setting.secret) names.set(`${setting.env}_FILE`, { setting, fromFile: true })
  }
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || text === undefined || text === '' || otherVariables.includes(name)) continue
    const known = names.get(name)
    if (known === undefined) {
      const hint = text.startsWith('tcp://') || name.includes('_SERVICE_') ? '; Kubernetes makes such names, enableServiceLinks: false ends it' : suggest(name, [...names.keys()])
      problems.push(`environment: there is no setting ${name}${hint}`)
      continue
    }
    const { setting, fromFile } = known
    if (fromFile && (env[setting.env] ?? '') !== '') {
      problems.push(`environment: ${setting.env} and ${name} are both set`)
      continue
    }
    try {
      const content = fromFile ? readFileSync(text, 'utf8').replace(/\r?\n$/, '') : text
      values.set(setting.path, { value: fromText(content, setting), origin: fromFile ? `environment ${name} (${text})` : `environment ${name}` })
    } catch (error) {
      problems.push(`environment: the file that ${name} names can't be read: ${messageOf(error)}`)
    }
  }
}

function readOptions(options: Readonly<Record<string, unknown>>, settings: readonly Setting[], values: Values, problems: string[]): void {
  const byPath = new Map(settings.map((setting) => [setting.path, setting]))
  for (const [path, value] of Object.entries(options)) {
    const setting = byPath.get(path)
    if (setting === undefined) problems.push(`command line: there is no setting ${path}${suggest(path, [...byPath.keys()])}`)
    else values.set(path, { value: typeof value === 'string' ? fromText(value, setting) : value, origin: 'command line' })
  }
}

/** What doesn't look like its type stays text, and the schema says what is wrong with it. */
function fromText(text: string, { type }: Setting): unknown {
  if (type === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text
  if (type === 'boolean') return { true: true, false: false, 1: true, 0: false }[text] ?? text
  if (type === 'list') return text.split(',').map((item) => item.trim()).filter((item) => item !== '')
  return text
}

function nested(values: Values): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  for (const [path, { value }] of values) {
    const names = path.split('.')
    let section = root
    for (const name of names.slice(0, -1)) section = (section[name] ??= {}) as Record<string, unknown>
    section[names.at(-1) as string] = value
  }
  return root
}

/** zod's words don't repeat the value, which may be a secret. */
function sayIssue({ path: names, message }: z.core.$ZodIssue, settings: readonly Setting[], values: Values): string {
  const path = names.filter((name) => typeof name === 'string').join('.')
  const setting = settings.find((candidate) => candidate.path === path)
  const origin = values.get(path)?.origin
  if (origin === undefined && setting !== undefined) return `${path} is missing (${setting.env}): ${setting.description}`
  return `${path}${origin === undefined ? '' : ` (${origin})`}: ${message}`
}

function suggest(name: string, names: readonly string[]): string {
  const found = nearest(name, names)
  return found === null ? '' : `; did you mean ${found}?`
}

/** The value of a setting as it may be shown. */
export function shown(value: unknown, path: string, { secret }: Setting): unknown {
  let at = value
  for (const name of path.split('.')) at = isRecord(at) ? at[name] : undefined
  return secret && at !== undefined && at !== '' ? '***' : at
}

/** The whole configuration as it may be shown: secrets masked, what is not set left out. */
export function masked({ value, settings }: Loaded<unknown>): Record<string, unknown> {
  const entries = settings.map((setting) => [setting.path, { value: shown(value, setting.path, setting), origin: '' }] as const)
  return nested(new Map(entries.filter(([, entry]) => entry.value !== undefined)))
}
