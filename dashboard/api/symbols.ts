import { z } from 'zod'
import { iso } from '../queries/ask.ts'
import { readMerges } from '../queries/merges.ts'
import { readMissingSymbols } from '../queries/missing-symbols.ts'
import { ACTOR, scopeOf, type Api, type ApiDeps } from './api.ts'
import { missingSymbolsSchema, symbolsStoredSchema } from './contract.ts'
import { rangeQuerySchema } from './requests.ts'
import { Refused } from './problems.ts'

/**
 * Symbols: what is missing most, and the upload of a Breakpad .sym file or a source map as raw bytes. The event of an
 * upload is what workers go by, in this process or another: crashes that wait are analysed again whatever ends in between.
 */
const tags = ['symbols']

export function symbolRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock, settings, events, onSymbols, onUpload } = deps
  api.addContentTypeParser('application/octet-stream', { parseAs: 'buffer', bodyLimit: settings.symbolBytes }, (_request, body, done) => done(null, body))

  api.get('/api/v1/symbols/missing', {
    schema: { summary: 'Modules without symbols, by the crashes that wait for them', tags, querystring: rangeQuerySchema, response: { 200: missingSymbolsSchema } },
  }, async ({ query }) => {
    const scope = scopeOf(deps, query)
    return { items: await readMissingSymbols(clickhouse, scope, await readMerges(clickhouse, scope.fleet)), as_of: iso(clock.now()) }
  })

  api.post('/api/v1/symbols', {
    bodyLimit: settings.symbolBytes,
    schema: {
      summary: 'Upload a symbol file: raw bytes as application/octet-stream', tags, consumes: ['application/octet-stream'],
      querystring: z.object({ name: z.string().min(1).max(256) }), response: { 200: symbolsStoredSchema },
    },
  }, async ({ query: { name }, body }) => {
    if (!Buffer.isBuffer(body)) throw new Refused('media-type', 'send the file as application/octet-stream')
    const put = await deps.symbols.put(body, { name })
    onUpload(put.status !== 'stored' ? 'refused' : put.already ? 'already' : 'stored')
    if (put.status !== 'stored') throw new Refused('symbols-refused', `${name}: ${put.reason}`)
    const { prepared, key } = put
    const file = prepared.kind === 'source-map' ? prepared.file : prepared.debugFile
    await events.append({ fleet: settings.fleet, actor: ACTOR, kind: 'symbols.uploaded', subject: `symbols:${prepared.debugId}`, body: { name, key, debug_file: file, bytes: body.length, ...(put.elfSha256 === undefined ? {} : { elf_sha256: put.elfSha256, digest_ids: put.digestIds }) } })
    onSymbols()
    return { key, debug_id: prepared.debugId, debug_file: file, reprocessing: true }
  })
}
