import ffi from 'ffi-napi'
import { messageOf, PlatformError } from '../src/core/errors.js'

/**
 * The door to ffi-napi: nothing outside this file names it, and replacing it touches this file alone.
 *
 * Opaque C pointers are numbers (user-space addresses fit 48 bits); memory that C reads or writes is a Buffer, passed as
 * `pointer`. Measured against `ref.alloc` and `deref` in each call: ten times as fast, and no growth.
 */

/** C types in signatures. `address` is an opaque pointer, as a number; `buffer` is memory of ours. */
export type CType = 'u8' | 'u16' | 'u32' | 'i32' | 'size' | 'address' | 'buffer'

/** An argument: a number for integers and addresses, a Buffer or `null` for memory. */
export type CArgument = number | Buffer | null

/** A function of a C library that runs off the main thread and answers a 32-bit code. */
export type CFunction = (...args: readonly CArgument[]) => Promise<number>

/** The same, called at once: for functions that only compute. */
export type CComputation = (...args: readonly CArgument[]) => number

/** Arguments of each function, in the header's order; all of them return TSS2_RC. */
export type Signatures = Readonly<Record<string, readonly CType[]>>

const FFI_TYPES: Readonly<Record<CType, string>> = {
  u8: 'uint8',
  u16: 'uint16',
  u32: 'uint32',
  i32: 'int32',
  size: 'uint64',
  address: 'uint64',
  buffer: 'pointer',
}

interface ForeignFunction {
  (...args: readonly CArgument[]): number
  async(...args: readonly unknown[]): void
}

/**
 * Opens a shared library by its soname.
 *
 * @throws PlatformError `TPM_LIBRARY` where it is not installed
 */
export function openLibrary<S extends Signatures>(
  soname: string,
  signatures: S,
): Readonly<Record<keyof S, CFunction>> {
  return Object.fromEntries(
    Object.entries(functionsOf(soname, signatures)).map(([name, foreign]) => [
      name,
      asynchronous(foreign),
    ]),
  ) as Readonly<Record<keyof S, CFunction>>
}

/** Opens functions that only compute, and are called on the main thread: a thread would cost more than the call. */
export function openComputations<S extends Signatures>(
  soname: string,
  signatures: S,
): Readonly<Record<keyof S, CComputation>> {
  return functionsOf(soname, signatures)
}

/** A function that returns text which C keeps, called at once: for tables of messages alone. */
export function openText(soname: string, name: string): (code: number) => string {
  const declarations = { [name]: ['string', ['uint32']] }
  const foreign = load(soname, declarations)[name] as unknown as (code: number) => string
  return (code) => foreign(code)
}

/** A function without a result, called at once: to free what C allocated. */
export function openRelease(soname: string, name: string): (address: number) => void {
  const declarations = { [name]: ['void', ['uint64']] }
  const foreign = load(soname, declarations)[name] as unknown as (address: number) => void
  return (address) => foreign(address)
}

/** Sets a variable that C libraries of this process read with `getenv`. */
export function setLibraryVariable(name: string, value: string): void {
  const declarations = { setenv: ['int', ['string', 'string', 'int']] }
  const { setenv } = load('libc.so.6', declarations) as unknown as {
    setenv(name: string, value: string, overwrite: number): number
  }
  setenv(name, value, 0)
}

function functionsOf<S extends Signatures>(
  soname: string,
  signatures: S,
): Readonly<Record<keyof S, ForeignFunction>> {
  const declarations = Object.fromEntries(
    Object.entries(signatures).map(([name, types]) => [
      name,
      ['uint32', types.map((type) => FFI_TYPES[type])],
    ]),
  )
  return load(soname, declarations) as Readonly<Record<keyof S, ForeignFunction>>
}

function load(soname: string, declarations: object): Record<string, ForeignFunction> {
  try {
    return ffi.Library(
      soname,
      declarations as Parameters<typeof ffi.Library>[1],
    ) as unknown as Record<string, ForeignFunction>
  } catch (cause) {
    throw new PlatformError('TPM_LIBRARY', `cannot load ${soname}: ${messageOf(cause)}`, { cause })
  }
}

function asynchronous(foreign: ForeignFunction): CFunction {
  return (...args) =>
    new Promise((resolve, reject) => {
      foreign.async(...args, (error: unknown, result: number) =>
        error ? reject(error) : resolve(result),
      )
    })
}
