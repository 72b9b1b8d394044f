import { isPassing, sendOnce, sendPatiently, wait, type Patience, type Posted } from './post.ts'

/**
 * Sends a dump in pieces over /v1/uploads (draft-ietf-httpbis-resumable-upload): the manifest opens the upload, then each
 * piece goes to the offset that the server has. After a break the server is asked how far it came, and only the rest is
 * sent again. A piece that arrived is progress: the patience begins anew. What the server forgot is begun again.
 */
export interface Uploading { url: string; manifest: Uint8Array; dump: Uint8Array; pieceBytes: number; patience: Patience }

export async function uploadInPieces({ url, manifest, dump, pieceBytes, patience }: Uploading): Promise<Posted> {
  const crashManifest = `:${Buffer.from(manifest).toString('base64')}:`
  for (let attempt = 0; ; attempt++) {
    const created = await sendPatiently({ method: 'POST', url, headers: { 'crash-manifest': crashManifest, 'upload-complete': '?0' } }, patience)
    const location = created.kind === 'answered' && created.status === 201 ? created.headers.get('location') : null
    if (location === null) return created
    const posted = await sendPieces(new URL(location, url).href, dump, pieceBytes, patience)
    if (posted.kind !== 'answered' || posted.status !== 404 || attempt >= patience.retries) return posted
    await wait(posted, attempt, patience)
  }
}

/** The answer to the last piece, or what ended it before. */
async function sendPieces(url: string, dump: Uint8Array, pieceBytes: number, patience: Patience): Promise<Posted> {
  let offset = 0
  for (let attempt = 0; ;) {
    const end = Math.min(offset + pieceBytes, dump.length)
    const posted = await sendOnce({
      method: 'PATCH', url, body: dump.subarray(offset, end),
      headers: { 'content-type': 'application/partial-upload', 'upload-offset': String(offset), 'upload-complete': end === dump.length ? '?1' : '?0' },
    }, patience.timeoutMs)
    if (posted.kind === 'answered' && posted.status === 204) {
      offset = end
      attempt = 0
      continue
    }
    // 409: an older piece got further than its answer did.
    const elsewhere = posted.kind === 'answered' && posted.status === 409 && posted.headers.has('upload-offset')
    if ((!isPassing(posted) && !elsewhere) || attempt === patience.retries) return posted
    await wait(posted, attempt++, patience)
    const asked = await sendPatiently({ method: 'HEAD', url, headers: {} }, patience)
    const told = asked.kind === 'answered' && asked.status === 204 ? Number(asked.headers.get('upload-offset')) : NaN
    if (!Number.isSafeInteger(told) || told > dump.length) return asked
    if (told > offset) attempt = 0
    offset = told
  }
}
