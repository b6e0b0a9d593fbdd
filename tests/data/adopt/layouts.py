"""Small data sets, each laid out as its owners hand it out; the pictures are made up."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 80


def blob(seed: int, radius: float = 12, where: tuple[float, float] | None = None) -> np.ndarray:
    """(H, W) bool: one disc."""
    rng = np.random.default_rng(seed)
    row, column = where or (rng.uniform(20, HEIGHT - 20), rng.uniform(20, WIDTH - 20))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def photo(seed: int, inside: np.ndarray, channels: int = 3) -> np.ndarray:
    """A noisy picture that is brighter in ``inside``."""
    rng = np.random.default_rng(seed + 1000)
    noise = rng.normal(90, 25, (HEIGHT, WIDTH, channels)) + 80 * inside[..., None]
    pixels = noise.clip(0, 255).astype(np.uint8)
    return pixels if channels == 3 else pixels[..., 0]


def save(path: Path, pixels: np.ndarray) -> None:
    """A picture file; masks of bool become 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    Image.fromarray(pixels).save(path)


def dsb2018(root: Path) -> None:
    """stage1_train/<id>/images/<id>.png and masks/<another id>.png, one for each nucleus."""
    rng = np.random.default_rng(0)
    for index in range(6):
        id = rng.bytes(32).hex()
        nuclei = [blob(10 * index + k, 5) for k in range(3)]
        whole = np.any(nuclei, axis=0)
        grey = photo(index, whole, 1)
        rgba = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        save(root / "stage1_train" / id / "images" / f"{id}.png", rgba)
        for nucleus in nuclei:
            name = rng.bytes(32).hex()
            save(root / "stage1_train" / id / "masks" / f"{name}.png", nucleus)


def busi(root: Path) -> None:
    """benign (1).png, benign (1)_mask.png and, of a second lesion, benign (1)_mask_1.png."""
    for kind in ("benign", "malignant", "normal"):
        for index in range(1, 5):
            place = root / "Dataset_BUSI_with_GT" / kind
            mask = np.zeros((HEIGHT, WIDTH), bool) if kind == "normal" else blob(index)
            save(place / f"{kind} ({index}).png", photo(index + ord(kind[0]), mask))
            save(place / f"{kind} ({index})_mask.png", mask)
            if kind == "benign" and index == 2:
                save(place / f"{kind} ({index})_mask_1.png", blob(9, 4))


def isic2018(root: Path) -> None:
    """Folders of inputs and of truths for each split, masks with the suffix _segmentation."""
    for part, first, count in (("Training", 0, 4), ("Validation", 10, 2), ("Test", 20, 2)):
        inputs = root / f"ISIC2018_Task1-2_{part}_Input"
        truths = root / f"ISIC2018_Task1_{part}_GroundTruth"
        for number in range(first, first + count):
            mask = blob(number)
            save(inputs / f"ISIC_{number:07d}.jpg", photo(number, mask))
            save(truths / f"ISIC_{number:07d}_segmentation.png", mask)
        (inputs / "LICENSE.txt").write_text("CC-0")
        (inputs / "ATTRIBUTION.txt").write_text("owners")


def montgomery(root: Path) -> None:
    """CXR_png, and masks of the left and the right lung in folders of their own."""
    place = root / "MontgomerySet"
    for number in range(1, 7):
        name = f"MCUCXR_{number:04d}_{number % 2}.png"
        left, right = blob(number, 10, (30, 20)), blob(number, 10, (32, 58))
        save(place / "CXR_png" / name, photo(number, left | right, 1))
        save(place / "ManualMask" / "leftMask" / name, left)
        save(place / "ManualMask" / "rightMask" / name, right)
    readings = place / "ClinicalReadings" / "MCUCXR_0001_1.txt"
    readings.parent.mkdir()
    readings.write_text("Patient's Sex: F")


def glas(root: Path) -> None:
    """train_1.bmp and train_1_anno.bmp with numbered glands, testA, testB, and Grade.csv."""
    place = root / "Warwick QU Dataset (Released 2016_07_08)"
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for part, count in (("train", 6), ("testA", 2), ("testB", 2)):
        for number in range(1, count + 1):
            seed = number + len(lines)
            glands = [blob(seed, 8, (16, 18 + 14 * k)) for k in range(1 + seed % 4)]
            labels = np.zeros((HEIGHT, WIDTH), np.uint8)
            for k, gland in enumerate(glands):
                labels[gland & (labels == 0)] = k + 1
            save(place / f"{part}_{number}.bmp", photo(seed, labels > 0))
            save(place / f"{part}_{number}_anno.bmp", labels)
            lines.append(f"{part}_{number},{len(lines)}, benign, adenomatous")
    (place / "Grade.csv").write_text("\n".join(lines))


def monuseg(root: Path) -> None:
    """Tissue Images/*.tif with Annotations/*.xml, and MoNuSegTestData with both in one folder."""
    names = [f"TCGA-A7-A{number:03d}-01Z-00-DX1" for number in range(8)]
    for index, name in enumerate(names):
        training = index < 5
        home = root / ("MoNuSeg 2018 Training Data" if training else "MoNuSegTestData")
        pictures, notes = (
            (home / "Tissue Images", home / "Annotations") if training else (home, home)
        )
        save(pictures / f"{name}.tif", photo(index, blob(index)))
        notes.mkdir(parents=True, exist_ok=True)
        (notes / f"{name}.xml").write_text(_aperio(index))


def _aperio(seed: int) -> str:
    corners = _corners(seed)
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    region = f'<Region Id="1"><Vertices>{vertices}</Vertices></Region>'
    body = f'<Annotation Id="1"><Regions>{region}</Regions></Annotation>'
    return f'<Annotations MicronsPerPixel="0.25">{body}</Annotations>'


def _corners(seed: int) -> list[list[float]]:
    """The outline of ``blob(seed)``, about."""
    rows, columns = np.nonzero(blob(seed))
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x, y = columns.mean() + 12 * np.cos(turn), rows.mean() + 12 * np.sin(turn)
    return np.stack([x, y], axis=1).round(2).tolist()


def polypgen(root: Path) -> None:
    """A folder for each centre, videos with polyps, and videos without, which have no masks."""
    for centre in (1, 2, 3):
        place = root / f"data_C{centre}"
        for number in range(4):
            name = f"C{centre}_100H{number:04d}"
            mask = blob(10 * centre + number)
            save(place / f"images_C{centre}" / f"{name}.jpg", photo(number, mask))
            save(place / f"masks_C{centre}" / f"{name}_mask.jpg", mask)
            save(place / f"bbox_image_C{centre}" / f"{name}.jpg", photo(number, mask))
            box = place / f"bbox_C{centre}" / f"{name}_mask.txt"
            box.parent.mkdir(exist_ok=True)
            box.write_text("polyp 1 2 3 4")
    videos = root / "sequenceData"
    for video in (1, 2):
        for frame in range(3):
            mask = blob(100 + video)
            place = videos / "positive" / f"seq{video}"
            save(place / f"images_seq{video}" / f"{video}_{frame}.jpg", photo(frame, mask))
            save(place / f"masks_seq{video}" / f"{video}_{frame}_mask.jpg", mask)
            nothing = np.zeros_like(mask)
            empty = videos / "negativeOnly" / f"seq{video}_neg"
            save(empty / f"n{video}_{frame}.jpg", photo(50 + 10 * video + frame, nothing))


def carvana(root: Path) -> None:
    """train/*.jpg, sixteen views of each car, and train_masks/*_mask.gif."""
    for car in ("00087a6bd4dc", "02159e548029", "0495dcf27283", "0795e132d090"):
        for view in range(1, 4):
            seed = view + sum(car.encode())
            mask = blob(seed)
            save(root / "train" / f"{car}_{view:02d}.jpg", photo(seed, mask))
            save(root / "train_masks" / f"{car}_{view:02d}_mask.gif", mask)
    (root / "metadata.csv").write_text("id,year,make\n00087a6bd4dc,2008,Acura\n")


def volume(seed: int, mr: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Values and labels 0, 1 and 2, (40, 36, 6)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :36]
    organ = (rows - 20) ** 2 + (columns - 18) ** 2 < 100
    lesion = (rows - 18 - seed % 3) ** 2 + (columns - 18) ** 2 < 16
    labels = np.repeat((organ.astype(np.uint8) + (lesion & organ))[..., None], 6, axis=2)
    body = (rows - 20) ** 2 + (columns - 18) ** 2 < 240
    tissue = np.where(body[..., None], -80, -1000) + 150 * (labels > 0) + 40 * (labels > 1)
    values = tissue + rng.normal(0, 10, labels.shape)
    return (np.rint((values + 1000) / 3) if mr else values).astype(np.int16), labels


def decathlon(root: Path) -> None:
    """imagesTr, labelsTr and unlabelled imagesTs, of MR, named in dataset.json."""
    import nibabel

    place = root / "Task04_Hippocampus"
    for folder, numbers in (("Tr", range(1, 7)), ("Ts", range(7, 9))):
        for number in numbers:
            values, labels = volume(number, mr=True)
            for part, array in (("images", values), ("labels", labels)):
                if part == "images" or folder == "Tr":
                    file = place / f"{part}{folder}" / f"hippocampus_{number:03d}.nii.gz"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), file)
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    (place / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": labels}))


def dicom_series(root: Path) -> None:
    """A folder of CT slices for each patient, with a NIfTI mask beside it."""
    import SimpleITK

    for number in range(1, 6):
        values, labels = volume(number)
        place = root / f"Patient{number:02d}"
        (place / "DICOM").mkdir(parents=True)
        for part, array in (("image", values), ("mask", (labels > 0).astype(np.uint8))):
            image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 0, 1)))
            image.SetSpacing((0.8, 0.8, 3.0))
            if part == "mask":
                SimpleITK.WriteImage(image, str(place / "liver_mask.nii.gz"))
            else:
                _write_series(image, place / "DICOM", number)


def _write_series(image: object, folder: Path, number: int) -> None:
    import SimpleITK

    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    depth = image.GetDepth()  # type: ignore[attr-defined]
    for index in range(depth):
        plane = image[:, :, index]  # type: ignore[index]
        place = image.TransformIndexToPhysicalPoint((0, 0, index))  # type: ignore[attr-defined]
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{number}",
            "0020|000d": f"1.2.826.0.1.3680043.2.1126.{number}",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.{number}.{index + 1}",
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(map(str, place)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"IM{index:04d}.dcm"))
        writer.Execute(plane)


def labelme(root: Path) -> None:
    """Pictures, each with a JSON file of its polygons beside it."""
    for number in range(6):
        name = f"frame_{number:03d}"
        save(root / f"{name}.jpg", photo(number, blob(number)))
        shape = {"label": "polyp", "points": _corners(number), "shape_type": "polygon"}
        box = {"label": "tool", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
        content = {"version": "5.4.1", "shapes": [shape, box], "imagePath": f"{name}.jpg"}
        content |= {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        (root / f"{name}.json").write_text(json.dumps(content))


def coco(root: Path) -> None:
    """train, valid and test folders, each with a COCO file, of two classes."""
    for part, first, count in (("train", 0, 4), ("valid", 4, 2), ("test", 6, 2)):
        images, notes = [], []
        for number in range(first, first + count):
            save(root / part / f"{number:03d}.jpg", photo(number, blob(number)))
            size = {"height": HEIGHT, "width": WIDTH}
            images.append({"id": number, "file_name": f"{number:03d}.jpg", **size})
            flat = [value for corner in _corners(number) for value in corner]
            for category, corners in ((1, flat), (2, [2, 2, 14, 2, 14, 14, 2, 14])):
                note = {"id": len(notes), "image_id": number, "category_id": category}
                notes.append(note | {"segmentation": [corners], "iscrowd": 0})
        kinds = [{"id": 1, "name": "cell"}, {"id": 2, "name": "debris"}]
        content = {"images": images, "annotations": notes, "categories": kinds}
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))


def cvat(root: Path) -> None:
    """images and annotations.xml of CVAT for images 1.1."""
    entries = []
    for number in range(6):
        save(root / "images" / f"case{number}.png", photo(number, blob(number)))
        points = ";".join(f"{x},{y}" for x, y in _corners(number))
        shapes = f'<polygon label="lesion" points="{points}" occluded="0"></polygon>'
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        entries.append(f'<image id="{number}" name="case{number}.png" {size}>{shapes}</image>')
    text = "".join(entries)
    (root / "annotations.xml").write_text(
        f"<annotations><version>1.1</version>{text}</annotations>"
    )


def save_volume(path: Path, array: np.ndarray) -> None:
    """A NIfTI file."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def listed(root: Path) -> None:
    """images and masks of one name, and the splits in train.txt, val.txt and test.txt."""
    names = [f"cju{number:03d}qk" for number in range(12)]
    for number, name in enumerate(names):
        save(root / "images" / f"{name}.jpg", photo(number, blob(number)))
        save(root / "masks" / f"{name}.jpg", blob(number))
    for part, chosen in (("train", names[:8]), ("val", names[8:10]), ("test", names[10:])):
        (root / f"{part}.txt").write_text("\n".join(chosen) + "\n")


def pascal_voc(root: Path) -> None:
    """JPEGImages, palettes with void borders, and lists of names below ImageSets."""
    names = [f"2007_{number:06d}" for number in range(9)]
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    for number, name in enumerate(names):
        labels = blob(number).astype(np.uint8) * (1 + number % 2)
        labels[blob(number, 14) & ~blob(number)] = 255
        picture = Image.fromarray(labels)
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224] * 759)
        picture.save(root / "SegmentationClass" / f"{name}.png")
        save(root / "JPEGImages" / f"{name}.jpg", photo(number, labels > 0))
    (lists / "train.txt").write_text("\n".join(names[:6]))
    (lists / "val.txt").write_text("\n".join(names[6:]))
    (lists / "trainval.txt").write_text("\n".join(names))


def refuge(root: Path) -> None:
    """Training400 and REFUGE-Validation400; masks .bmp: the cup is 0, the disc 128."""
    training = [("Training400", "Annotation-Training400", kind) for kind in ("Glaucoma", "Normal")]
    parts = [*training, ("REFUGE-Validation400", "REFUGE-Validation400-GT", "")]
    for place, (pictures, truths, kind) in enumerate(parts):
        for number in range(1, 1 + (3, 14, 10)[place]):
            seed, name = 20 * place + number, f"{'gnV'[place]}{number:04d}"
            mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
            mask[blob(seed, 14, (32, 40))] = 128
            mask[blob(seed, 7, (32, 40))] = 0
            save(root / pictures / kind / f"{name}.jpg", photo(seed, mask < 255))
            save(root / truths / "Disc_Cup_Masks" / kind / f"{name}.bmp", mask)


def kits(root: Path) -> None:
    """data/case_00000/imaging.nii.gz and segmentation.nii.gz, slices first, and kits.json."""
    for number in range(6):
        place = root / "data" / f"case_{number:05d}"
        for name, array in zip(("imaging", "segmentation"), volume(number), strict=True):
            save_volume(place / f"{name}.nii.gz", array)
    (root / "data" / "kits.json").write_text(json.dumps([{"case_id": "case_00000"}]))


def amos(root: Path) -> None:
    """imagesTr and imagesVa with labels, imagesTs without, and names in dataset.json."""
    for part, numbers in (("Tr", range(1, 7)), ("Va", range(7, 9)), ("Ts", range(9, 11))):
        for number in numbers:
            values, labels = volume(number)
            name = f"amos_{number:04d}.nii.gz"
            save_volume(root / f"images{part}" / name, values)
            if part != "Ts":
                save_volume(root / f"labels{part}" / name, labels)
    labels = {"0": "background", "1": "right kidney", "2": "left kidney"}
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": labels}))


def brats(root: Path) -> None:
    """A folder for each patient, with four sequences and one segmentation of labels 1 and 4."""
    for number in range(1, 7):
        values, labels = volume(number, mr=True)
        name = f"BraTS20_Training_{number:03d}"
        for sequence in ("flair", "t1", "t1ce", "t2"):
            array = (values + len(sequence)).astype(np.int16)
            save_volume(root / "TrainingData" / name / f"{name}_{sequence}.nii", array)
        marked = np.where(labels == 2, 4, labels).astype(np.uint8)
        save_volume(root / "TrainingData" / name / f"{name}_seg.nii", marked)


def ham10000(root: Path) -> None:
    """Two folders of photographs, one of masks; lesions of several photographs in a table."""
    rows = []
    for number in range(12):
        name = f"ISIC_{24306 + number:07d}"
        save(
            root / f"HAM10000_images_part_{1 + number // 6}" / f"{name}.jpg",
            photo(number, blob(number)),
        )
        masks = root / "HAM10000_segmentations_lesion_tschandl"
        save(masks / f"{name}_segmentation.png", blob(number))
        rows.append([f"HAM_{number // 2:07d}", name, "nv" if number % 3 else "mel", 40 + number])
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["lesion_id", "image_id", "dx", "age"], *rows])


def chase_db1(root: Path) -> None:
    """Both eyes of each child, and two observers of each, all in one folder."""
    for number in range(1, 6):
        for side in "LR":
            seed, name = 2 * number + (side == "L"), f"Image_{number:02d}{side}"
            save(root / f"{name}.jpg", photo(seed, blob(seed)))
            save(root / f"{name}_1stHO.png", blob(seed))
            save(root / f"{name}_2ndHO.png", blob(seed, 11.5))


def etis(root: Path) -> None:
    """1.tif, and p1.tif in a folder Ground Truth."""
    for number in range(1, 13):
        save(root / "ETIS-LaribPolypDB" / f"{number}.tif", photo(number, blob(number)))
        save(root / "Ground Truth" / f"p{number}.tif", blob(number))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "dsb2018": dsb2018,
    "busi": busi,
    "isic2018": isic2018,
    "montgomery": montgomery,
    "glas": glas,
    "monuseg": monuseg,
    "polypgen": polypgen,
    "carvana": carvana,
    "decathlon": decathlon,
    "dicom_series": dicom_series,
    "labelme": labelme,
    "coco": coco,
    "cvat": cvat,
    "listed": listed,
    "pascal_voc": pascal_voc,
    "refuge": refuge,
    "kits": kits,
    "amos": amos,
    "brats": brats,
    "ham10000": ham10000,
    "chase_db1": chase_db1,
    "etis": etis,
}
# scans of a layout that `predict` takes
SCANS = {
    "decathlon": "Task04_Hippocampus/imagesTs",
    "dicom_series": "Patient01/DICOM",
    "kits": "data/case_00000/imaging.nii.gz",
    "amos": "imagesTs",
    "brats": "TrainingData/BraTS20_Training_001/BraTS20_Training_001_flair.nii",
}


def make_layout(name: str, root: Path) -> Path:
    """The folder of one of `LAYOUTS`, below ``root``."""
    folder = root / name
    folder.mkdir(parents=True)
    LAYOUTS[name](folder)
    return folder
