/** Patterns of `like`, without a way back: what a text takes does not grow by powers. Pure. */

type Points = readonly string[];
/** What stands between two `%`: code points, of which null is any. */
type Piece = (string | null)[];

/** Whether a whole text is of a pattern: `%` is any text, `_` any code point, `\` takes the next one as it is. */
export function readPattern(pattern: string): (text: string) => boolean {
  const [first = [], ...rest] = split(pattern);
  const last = rest.pop();
  const least = [first, ...rest, last ?? []].reduce((all, piece) => all + piece.length, 0);
  const between = rest.map((piece) => ({ piece, borders: bordersOf(piece) }));
  return (value) => {
    const text = pointsOf(value);
    if (text.length < least || !stands(first, text, 0)) return false;
    if (!last) return text.length === least;
    const end = text.length - last.length;
    if (!stands(last, text, end)) return false;
    // Where one has its leftmost place, those after it have the most room: no other place need be tried.
    let at = first.length;
    for (const { piece, borders } of between) {
      const found = borders ? findLiteral(piece, borders, text, at, end) : find(piece, text, at, end);
      if (found < 0) return false;
      at = found + piece.length;
    }
    return true;
  };
}

function find(piece: Piece, text: Points, start: number, end: number): number {
  for (let at = start; at + piece.length <= end; at++) if (stands(piece, text, at)) return at;
  return -1;
}

/**
 * The leftmost place of a piece without `_` from `start` on that ends by `end`, -1 where there is none; by Knuth, Morris
 * and Pratt, so that no point of the text is looked at more than twice. `borders`: as `bordersOf` has them.
 */
export function findLiteral(
  piece: Piece,
  borders: readonly number[],
  text: Points,
  start: number,
  end: number,
): number {
  if (!piece.length) return start;
  let met = 0;
  for (let at = start; at < end; at++) {
    const point = text[at] as string;
    while (met > 0 && piece[met] !== point) met = borders[met - 1] as number;
    if (piece[met] === point) met++;
    if (met === piece.length) return at + 1 - met;
  }
  return -1;
}

/** Of each beginning of a piece, how long its longest end is that is a beginning too; null for a piece with `_`. */
export function bordersOf(piece: Piece): number[] | null {
  if (piece.includes(null)) return null;
  const borders = [0];
  for (let at = 1, met = 0; at < piece.length; at++) {
    while (met > 0 && piece[met] !== piece[at]) met = borders[met - 1] as number;
    if (piece[met] === piece[at]) met++;
    borders.push(met);
  }
  return borders;
}

function stands(piece: Piece, text: Points, start: number): boolean {
  for (let at = 0; at < piece.length; at++)
    if (piece[at] !== null && piece[at] !== text[start + at]) return false;
  return true;
}

function split(pattern: string): Piece[] {
  const pieces: Piece[] = [];
  let piece: Piece = [];
  pieces.push(piece);
  const points = pointsOf(pattern);
  for (let at = 0; at < points.length; at++) {
    const point = points[at] as string;
    if (point === "%") {
      piece = [];
      pieces.push(piece);
    } else if (point === "_") piece.push(null);
    else piece.push(point === "\\" ? (points[++at] ?? point) : point);
  }
  return pieces;
}

/** Code points, where A to Z are as a to z. */
function pointsOf(text: string): Points {
  return [...text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())];
}
