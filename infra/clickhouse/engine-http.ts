import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { finished, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import type { Lanes, Outcome, Statement } from './engine-lanes.ts'

/**
 * The part of ClickHouse's HTTP interface that the official client uses, in front of the lanes:
 * /ping, the statement in `query` or the body, `param_*`, settings as other query-string names, `default_format`,
 * `database`, gzip bodies, INSERT with its rows in the body, X-ClickHouse-Summary, and exceptions as text with
 * X-ClickHouse-Exception-Code. Not there: HTTP sessions, multipart parameters, compressed or streamed results
 * (chdb hands over a result whole), cancelling: a statement whose client has gone runs to its max_execution_time.
 * https://clickhouse.com/docs/interfaces/http
 */
const MAX_STATEMENT_BYTES = 1024 * 1024
const MAX_INSERT_BYTES = 64 * 1024 * 1024
/** Query-string names that are not settings. */
const PROTOCOL_NAMES = new Set([
  'query', 'database', 'default_format', 'query_id', 'session_id', 'session_timeout', 'session_check', 'user', 'password', 'role',
  'wait_end_of_query', 'buffer_size', 'compress', 'decompress', 'enable_http_compression', 'client_protocol_version', 'quota_key',
])

export function createEngineServer({ lanes, password }: { lanes: Lanes; password: string }): Server {
  const expected = sha256(password)
  // Arrays are bound in the query string; ClickHouse's own limit of a URI is 1 MiB (http_max_uri_size).
  return createServer({ maxHeaderSize: MAX_STATEMENT_BYTES, requestTimeout: 120_000 }, (request, response) => {
    answer(request, response).catch((error: unknown) => fail(response, asException(error)))
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://engine')
    if (url.pathname === '/ping') return send(response, 200, { 'content-type': 'text/plain' }, Buffer.from('Ok.\n'))
    if (url.pathname !== '/') throw exception(404, 60, `There is no handle ${url.pathname}`, 'UNKNOWN_TABLE')
    if (!timingSafeEqual(sha256(passwordOf(request)), expected)) {
      throw exception(403, 516, 'default: Authentication failed: password is incorrect, or there is no user with such name.', 'AUTHENTICATION_FAILED')
    }
    if (url.searchParams.has('session_id')) throw exception(501, 48, 'HTTP sessions are not supported by the embedded engine.', 'NOT_IMPLEMENTED')
    if (request.headers['content-type']?.startsWith('multipart/')) throw exception(501, 48, 'Multipart parameters are not supported by the embedded engine.', 'NOT_IMPLEMENTED')

    const inUrl = url.searchParams.get('query') ?? ''
    const target = insertTarget(inUrl)
    const asked = askedFor(url.searchParams, request.method === 'GET')
    // The lane is taken before the rows are read, so that one insert's rows at a time are in memory.
    const outcome = target
      ? await lanes.use('write', async (run) => {
          const rows = await readBody(request, MAX_INSERT_BYTES)
          return rows.length === 0 ? NOTHING : run({ ...asked, sql: inUrl, insert: { ...target, rows } })
        })
      : await runText(request, inUrl, asked)
    send(response, 200, { ...resultHeaders(outcome, asked.format), 'x-clickhouse-query-id': url.searchParams.get('query_id') ?? '' }, outcome.bytes)
  }

  async function runText(request: IncomingMessage, inUrl: string, asked: Omit<Statement, 'sql'>): Promise<Outcome> {
    const body = Buffer.from(await readBody(request, MAX_STATEMENT_BYTES)).toString('utf8')
    const sql = [inUrl, body].filter((part) => part !== '').join('\n')
    if (sql.trim() === '') throw exception(400, 62, 'Syntax error: Empty query', 'SYNTAX_ERROR')
    if (sql.includes('\0')) throw exception(400, 62, 'Syntax error: NUL byte in the statement', 'SYNTAX_ERROR')
    return lanes.use(READS.test(sql) ? 'read' : 'write', (run) => run({ ...asked, sql }))
  }
}

/** First word of a statement that changes nothing, after comments. */
const READS = /^(?:\s|--[^\n]*\n|\/\*[^]*?\*\/|\()*(?:SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN|CHECK)\b/i
const INSERT = /^\s*INSERT\s+INTO\s+([\w.`]+)\s*(?:\(([^()]*)\))?\s*FORMAT\s+(JSONEachRow|JSONCompactEachRow|TabSeparated|CSV)\s*$/i
const FORMATS = { jsoneachrow: 'JSONEachRow', jsoncompacteachrow: 'JSONCompactEachRow', tabseparated: 'TabSeparated', csv: 'CSV' } as const
const NOTHING: Outcome = { bytes: new Uint8Array(0), readRows: 0, readBytes: 0, writtenRows: 0, writtenBytes: 0, elapsedNs: 0 }

function insertTarget(sql: string): Omit<NonNullable<Statement['insert']>, 'rows'> | null {
  const match = INSERT.exec(sql)
  if (!match) return null
  const unquoted = (name: string): string => name.replaceAll('`', '').trim()
  return {
    table: unquoted(match[1] ?? ''),
    ...(match[2] === undefined ? {} : { columns: match[2].split(',').map(unquoted) }),
    format: FORMATS[(match[3] ?? '').toLowerCase() as keyof typeof FORMATS],
  }
}

function askedFor(search: URLSearchParams, get: boolean): Omit<Statement, 'sql'> {
  const params: Record<string, string> = {}
  const settings: Record<string, string> = {}
  for (const [name, value] of search) {
    if (name.startsWith('param_')) params[name.slice('param_'.length)] = value
    else if (!PROTOCOL_NAMES.has(name)) settings[name] = value
  }
  // ClickHouse lets a GET change nothing.
  if (get) settings['readonly'] = '2'
  return { params, settings, database: search.get('database') ?? 'default', format: search.get('default_format') ?? 'TabSeparated' }
}

function passwordOf(request: IncomingMessage): string {
  const basic = /^Basic ([A-Za-z0-9+/=]+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (basic !== undefined) {
    const [user, ...rest] = Buffer.from(basic, 'base64').toString('utf8').split(':')
    return user === 'default' ? rest.join(':') : ''
  }
  const key = request.headers['x-clickhouse-key']
  return request.headers['x-clickhouse-user'] === 'default' && typeof key === 'string' ? key : ''
}

async function readBody(request: IncomingMessage, limit: number): Promise<Uint8Array> {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity' && encoding !== 'gzip') throw exception(400, 48, `Content-Encoding ${JSON.stringify(encoding)} is not supported by the embedded engine.`, 'NOT_IMPLEMENTED')
  const source: Readable = encoding === 'gzip' ? request.pipe(createGunzip()) : request
  // A client may have gone while its insert waited for the lane: nothing tells the decoder so but this, and it would hold the lane for good.
  if (source !== request) finished(request, { writable: false }, (error) => { if (error) source.destroy(error) })
  const chunks: Uint8Array[] = []
  let size = 0
  // A refused body must not take the connection with it before the refusal is sent.
  for await (const chunk of source.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > limit) throw exception(413, 307, `Limit for the size of a request exceeded: more than ${limit} bytes. Insert fewer rows at a time.`, 'TOO_MANY_BYTES')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const resultHeaders = (outcome: Outcome, format: string): Record<string, string> => ({
  'content-type': format.startsWith('JSON') ? 'application/json; charset=UTF-8' : 'text/plain; charset=UTF-8',
  'x-clickhouse-timezone': 'UTC',
  'x-clickhouse-summary': JSON.stringify({
    read_rows: String(outcome.readRows), read_bytes: String(outcome.readBytes), written_rows: String(outcome.writtenRows), written_bytes: String(outcome.writtenBytes),
    total_rows_to_read: '0', result_rows: '0', result_bytes: String(outcome.bytes.length), elapsed_ns: String(outcome.elapsedNs),
  }),
})

/** What the client parses: `Code: 60. DB::Exception: text (UNKNOWN_TABLE)`. */
class EngineException extends Error {
  readonly status: number
  readonly code: number
  constructor(status: number, code: number, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

const exception = (status: number, code: number, text: string, name: string): EngineException =>
  new EngineException(status, code, `Code: ${code}. DB::Exception: ${text} (${name})`)

/** Statuses that ClickHouse gives to common codes; the rest are 500. */
const STATUS_OF = new Map([[36, 400], [41, 400], [43, 400], [47, 404], [53, 400], [60, 404], [62, 400], [81, 404], [115, 404], [159, 408], [164, 403], [456, 400]])

function asException(error: unknown): EngineException {
  if (error instanceof EngineException) return error
  const text = error instanceof Error ? error.message : String(error)
  const code = Number(/Code: (\d+)\./.exec(text)?.[1] ?? 1002)
  const known = /Code: \d+\./.test(text) ? text : `Code: ${code}. DB::Exception: ${text} (UNKNOWN_EXCEPTION)`
  return new EngineException(STATUS_OF.get(code) ?? 500, code, known)
}

function fail(response: ServerResponse, error: EngineException): void {
  if (response.headersSent || response.destroyed) return void response.destroy()
  // The rest of a refused body is not worth reading: the connection ends with the answer.
  send(response, error.status, { 'content-type': 'text/plain; charset=UTF-8', 'x-clickhouse-exception-code': String(error.code), ...(error.status === 413 ? { connection: 'close' } : {}) }, Buffer.from(`${error.message}\n`))
}

function send(response: ServerResponse, status: number, headers: Record<string, string>, body: Uint8Array): void {
  response.writeHead(status, { ...headers, 'content-length': body.length, 'x-clickhouse-server-display-name': 'overrun' })
  response.end(body)
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()
