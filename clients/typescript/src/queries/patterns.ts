/** Patterns of `like`, without a way back: what a text takes does not grow by powers. Pure. */

type Points = readonly string[];
/** What stands between two `%`: code points, of which null is any. */
type Piece = (string | null)[];

/** Whether a whole text is of a pattern: `%` is any text, `_` any code point, `\` takes the next one as it is. */
export function readPattern(pattern: string): (text: string) => boolean {
  const [first = [], ...rest] = split(pattern);
  const last = rest.pop();
  const least = [first, ...rest, last ?? []].reduce((all, piece) => all + piece.length, 0);
  return (value) => {
    const text = pointsOf(value);
    if (text.length < least || !stands(first, text, 0)) return false;
    if (!last) return text.length === least;
    const end = text.length - last.length;
    if (!stands(last, text, end)) return false;
    // Where one has its leftmost place, those after it have the most room: no other place need be tried.
    let at = first.length;
    for (const piece of rest) {
      while (at + piece.length <= end && !stands(piece, text, at)) at++;
      at += piece.length;
      if (at > end) return false;
    }
    return true;
  };
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
