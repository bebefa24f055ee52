/** The optional libraries that bring no types. */

declare module "seek-bzip" {
	const bzip: { decode(bytes: Buffer, size: number): Uint8Array };
	export default bzip;
}
declare module "snappyjs" {
	export function uncompress(bytes: Uint8Array, size: number): Uint8Array;
}
